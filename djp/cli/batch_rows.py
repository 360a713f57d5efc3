"""The rows of a file for `djp batch`: read from CSV, and told a line each when they are bad."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.cli.flags import flag_of
from djp.cli.given import MAX_TASK_BYTES
from djp.cli.terminal import err, one_line
from djp.mesh.errors import InvalidInput
from djp.mesh.validation import validate
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_ROWS = 100_000
"""As in the contract's batches."""
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class BatchFlags:
    """What the command line of `djp batch` said."""

    source: Path
    output: Path
    template: str = ""
    preset: str = ""
    policy: str = ""
    max_cost: str | None = None
    concurrency: int = 3
    batch_id: str = ""
    grounded_corpus: Path | None = None
    grounded_required: int | None = None
    redact: str = "on"
    as_json: bool = False
    gateway: str | None = None


def read_rows(flags: BatchFlags) -> tuple[list[run_pb2.RunRequest], str]:
    """What the rows of the file ask for, and a digest of it all. Raises InvalidInput."""
    try:
        with flags.source.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise InvalidInput(f"{flags.source} is larger than {MAX_FILE_BYTES >> 20} MiB; split it", field="input")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{flags.source} cannot be read: {error.strerror}", field="input") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{flags.source} is not UTF-8 text; save it as CSV in UTF-8", field="input") from error
    csv.field_size_limit(MAX_TASK_BYTES)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidInput(f"{flags.source} is not CSV: {error}", field="input") from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise InvalidInput(f"{flags.source} has no row below its heading", field="input")
    if len(lines) - 1 > MAX_ROWS:
        raise InvalidInput(f"{flags.source} has {len(lines) - 1} rows, and the most is {MAX_ROWS}", field="input")
    heading = [name.strip() for name in lines[0]]
    _check_heading(heading, flags)
    rows, problems = list[run_pb2.RunRequest](), list[tuple[int, str]]()
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(heading):
            problems.append((number, f"has {len(line)} cells, and the heading has {len(heading)}"))
            continue
        row = _request(dict(zip(heading, line, strict=True)), flags)
        if broken := _broken_rules(row):
            problems.append((number, broken))
        rows.append(row)
    refuse(problems, len(lines) - 1)
    whole = sha256()
    for row in rows:
        whole.update(row.SerializeToString(deterministic=True))
    return rows, whole.hexdigest()[:12]


def _check_heading(heading: Sequence[str], flags: BatchFlags) -> None:
    twice = sorted({name for name in heading if heading.count(name) > 1})
    if twice:
        raise InvalidInput(f"{flags.source} has the column {twice[0]!r} twice", field="input")
    if not flags.template and heading != ["task"]:
        raise InvalidInput(
            f"{flags.source} has the columns {', '.join(heading)}; without --template there is one, `task`",
            field="input",
        )


def _request(cells: dict[str, str], flags: BatchFlags) -> run_pb2.RunRequest:
    request = run_pb2.RunRequest(
        template=flags.template,
        preset=flags.preset,
        policy=flags.policy,
        redaction=run_pb2.RedactionMode.Value(f"REDACTION_MODE_{flags.redact.upper()}"),
    )
    if flags.grounded_required is not None:
        request.grounded_required = flags.grounded_required
    if flags.template:
        request.inputs.update({name: cell for name, cell in cells.items() if cell.strip()})
    else:
        request.task = cells["task"].strip()
    return request


def _broken_rules(row: run_pb2.RunRequest) -> str:
    """What the contract itself says against a row: an answer of the gateway has room for some bad rows only."""
    try:
        validate(row)
    except InvalidInput as error:
        return "; ".join(f"{flag_of(one.field)}: {one.description}" for one in error.violations)
    return ""


def refuse(problems: Sequence[tuple[int, str]], rows: int) -> None:
    """Raises InvalidInput, with a line for every bad row by its number, if there are any."""
    if not problems:
        return
    for number, problem in problems:
        err().print(f"row {number}: {one_line(problem)}", soft_wrap=True)
    bad = len({number for number, _ in problems})
    raise InvalidInput(f"{bad} of {rows} rows {'is' if bad == 1 else 'are'} bad; nothing was started", field="input")
