"""`djp batch`: a run for every row of a CSV file, under one cost cap; the same command goes on where it stopped."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import uuid
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from djp.cli.bars import counted
from djp.cli.exits import Exit
from djp.cli.given import MAX_TASK_BYTES
from djp.cli.session import connected
from djp.cli.show import state_name, why
from djp.cli.terminal import command_name, err, fail, one_line, say
from djp.mesh.errors import DjpError, InvalidInput
from djp.money import format_usd, parse_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from djp.client import DjpClient

MAX_ROWS = 100_000
"""As in the contract's batches."""
MAX_FILE_BYTES = 64 << 20
_CHECKS = 8  # rows that are checked at once
_PROBLEMS_SHOWN = 20
COLUMNS = ("row", "state", "run_id", "cost_usd", "tokens", "model", "citations", "file", "reason")


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


@dataclass
class Row:
    """One row: what it asks for, the most that it can cost, and how it ended."""

    number: int
    request: run_pb2.RunRequest
    request_id: str = ""
    bound: int = 0
    run: run_pb2.Run | None = None
    refused: str = ""
    """Why it was not started, or what went wrong with the watching of it."""


@dataclass
class Books:
    """What the rows have cost, and what those under way can cost at most. All in nano-dollars."""

    cap: int | None
    spent: int = 0
    held: int = 0
    full: bool = False
    """Whether a row did not fit: then no further one is taken, also no smaller one, so that rows stay in order."""
    rows: list[Row] = field(default_factory=list)

    def fits(self, row: Row) -> bool:
        """Whether there is room for a row's bound now."""
        return self.cap is None or self.spent + self.held + row.bound <= self.cap

    def takes(self, row: Row) -> bool:
        """Hold a row's bound if there is room for it."""
        self.full = self.full or not self.fits(row)
        if not self.full:
            self.held += row.bound
        return not self.full

    def ended(self, row: Row) -> None:
        """What a row has cost is known; of one that is not, its bound counts."""
        self.held -= row.bound
        self.spent += row.run.result.total_nano_usd if row.run else row.bound


async def batch(flags: BatchFlags) -> int:
    """Check every row, run them, and write a file for each and a summary.

    Raises InvalidInput: the file cannot be used, or rows are bad, one line each; nothing was started.
    """
    cap = parse_usd(flags.max_cost, field="max_cost") if flags.max_cost is not None else None
    rows, digest = read_rows(flags)
    batch_id = flags.batch_id or digest
    for row in rows:
        row.request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"djp-batch:{batch_id}:{row.number}"))
        row.request.tags.update({"batch": batch_id, "row": str(row.number)})
    books = Books(cap, rows=rows)
    _make_folder(flags.output)
    try:
        async with connected(flags.gateway) as client:
            if flags.grounded_corpus is not None:
                corpus = (await client.create_corpus(flags.grounded_corpus)).name
                for row in rows:
                    row.request.corpus = corpus
            try:
                await _check(client, rows, silent=flags.as_json)
                with counted("running", len(rows), silent=flags.as_json) as done:
                    await _run_all(client, books, flags, done)
            except ExceptionGroup as group:  # of rows that failed together, the first says why
                raise group.exceptions[0] from group
    except asyncio.CancelledError:
        _write_summary(flags.output, rows)
        ended = sum(row.run is not None for row in rows)
        so_far = f"{ended} of {len(rows)} rows have ended, for {format_usd(books.spent)}"
        err().print(f"interrupted: {so_far}; the same command goes on with the others", soft_wrap=True)
        raise
    _write_summary(flags.output, rows)
    return _told(flags, batch_id, books)


def read_rows(flags: BatchFlags) -> tuple[list[Row], str]:
    """The rows of the file, and a digest of all that they ask for. Raises InvalidInput."""
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
    rows, problems = [], []
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(heading):
            problems.append((number, f"has {len(line)} cells, and the heading has {len(heading)}"))
            continue
        rows.append(Row(number, _request(dict(zip(heading, line, strict=True)), flags)))
    _refuse(problems, len(lines) - 1)
    whole = sha256()
    for row in rows:
        whole.update(row.request.SerializeToString(deterministic=True))
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
    except OSError as error:
        raise InvalidInput(f"the folder {folder} cannot be used: {error.strerror}", field="output") from error


async def _check(client: DjpClient, rows: Sequence[Row], *, silent: bool) -> None:
    """Learn each row's bound. Raises InvalidInput with a line for every bad row, before any is started."""
    problems: list[tuple[int, str]] = []
    turn = asyncio.Semaphore(_CHECKS)

    async def one(row: Row) -> None:
        async with turn:
            try:
                row.bound = (await client.project_run(row.request)).projection.total.cost_nano_usd
            except DjpError as error:
                if error.code not in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"):
                    raise
                problems.append((row.number, error.message))

    with counted("checking", len(rows), silent=silent) as done:
        async with asyncio.TaskGroup() as group:
            for task in [group.create_task(one(row)) for row in rows]:
                task.add_done_callback(lambda _: done(""))
    _refuse(sorted(problems), len(rows))


def _refuse(problems: Sequence[tuple[int, str]], rows: int) -> None:
    if not problems:
        return
    for number, problem in problems[:_PROBLEMS_SHOWN]:
        err().print(f"row {number}: {one_line(problem)}", soft_wrap=True)
    more = f" ({len(problems) - _PROBLEMS_SHOWN} more are not shown)" if len(problems) > _PROBLEMS_SHOWN else ""
    bad = f"{len(problems)} of {rows} rows {'is' if len(problems) == 1 else 'are'} bad{more}"
    raise InvalidInput(f"{bad}; nothing was started", field="input")


async def _run_all(client: DjpClient, books: Books, flags: BatchFlags, done: Callable[[str], None]) -> None:
    turn, ended = asyncio.Semaphore(flags.concurrency), asyncio.Event()

    async def one(row: Row) -> None:
        try:
            row.run = await _run_one(client, row)
            _write_text(flags.output, row)
        except DjpError as error:
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            other = error.reason == "REQUEST_ID_REUSED"
            row.refused = (
                "another row had this number in this batch; choose another --batch-id" if other else error.message
            )
        finally:
            books.ended(row)
            ended.set()
            turn.release()
            done(f"{format_usd(books.spent)} so far")

    async with asyncio.TaskGroup() as group:
        for row in books.rows:
            await turn.acquire()
            while not books.fits(row) and books.held:  # most rows cost much less than they hold
                ended.clear()
                await ended.wait()
            if not books.takes(row):
                row.refused = "not started: the cost cap would be passed"
                turn.release()
                done(f"{format_usd(books.spent)} so far")
                continue
            group.create_task(one(row))


async def _run_one(client: DjpClient, row: Row) -> run_pb2.Run:
    """Start the row's run, or find it from before, and wait for its end."""
    run = await client.start_run(row.request, request_id=row.request_id)
    if run.state not in TERMINAL_STATES:
        async with aclosing(client.watch(run.run_id)) as events:
            async for event in events:
                if event.state.state in TERMINAL_STATES:
                    break
        run = await client.get_run(run.run_id)
    return run


def _file_of(row: Row) -> str:
    return f"{row.number:05d}.md" if row.run and row.run.result.text else ""


def _write_text(folder: Path, row: Row) -> None:
    from djp.cli.output import write_output

    if row.run and (name := _file_of(row)) and (problem := write_output(folder / name, row.run)):
        raise InvalidInput(problem, field="output")


def _write_summary(folder: Path, rows: Sequence[Row]) -> None:
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cells(row))
    whole = folder / f".summary.{os.getpid()}"
    try:
        whole.write_text(made.getvalue(), encoding="utf-8", newline="")
        whole.replace(folder / "summary.csv")
    except OSError as error:
        whole.unlink(missing_ok=True)
        fail(f"--output: summary.csv could not be written to {folder}: {error.strerror}")


def _cells(row: Row) -> list[Any]:
    run = row.run
    if run is None:
        return [
            row.number,
            "not started" if row.refused else "not finished",
            "",
            "",
            "",
            "",
            "",
            "",
            one_line(row.refused),
        ]
    result = run.result
    return [
        row.number,
        state_name(run.state),
        run.run_id,
        format_usd(result.total_nano_usd, 9).removeprefix("$"),
        result.total_tokens,
        result.model,
        len(result.citations),
        _file_of(row),
        why(run),
    ]


def _told(flags: BatchFlags, batch_id: str, books: Books) -> int:
    states: dict[str, int] = {}
    for row in books.rows:
        name = state_name(row.run.state) if row.run else "not started"
        states[name] = states.get(name, 0) + 1
    if flags.as_json:
        rows = [dict(zip(COLUMNS, _cells(row), strict=True)) for row in books.rows]
        told = {
            "batch_id": batch_id,
            "states": states,
            "cost_nano_usd": books.spent,
            "capped": books.full,
            "rows": rows,
        }
        print(json.dumps(told, indent=2))
    else:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
        say(f"{len(books.rows)} rows: {parts}; {format_usd(books.spent)} in all")
        say(f"Texts and summary.csv are in {flags.output}; batch {batch_id}")
        if books.full:
            say(
                f"The cap of {format_usd(books.cap or 0)} has no room for the next row; the same command with a higher "
                "--max-cost goes on",
                "yellow",
            )
        if any(row.run and row.run.HasField("error") for row in books.rows):
            say(f"Look at a run with: {command_name()} runs show RUN")
    if books.full:
        return Exit.DENIED
    if set(states) - {"published", "advisory", "no result"}:
        return Exit.FAILED
    return Exit.OK if set(states) == {"published"} else Exit.ADVISORY
