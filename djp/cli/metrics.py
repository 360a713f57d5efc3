"""`djp run --metrics FILE.csv`: one row about every run, for spreadsheets; the columns are the operations guide's."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
from decimal import Decimal
from typing import TYPE_CHECKING

from djp.cli.show import state_name
from djp.cli.terminal import one_line
from djp.mesh.errors import InvalidInput
from djp.money import NANO_PER_USD
from djp.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from djp.client import DjpClient

COLUMNS = (
    *("timestamp", "run_id", "workflow", "preset", "trace_name", "task"),
    *("tokens_in", "tokens_out", "tokens", "cost_usd", "duration_s"),
    *("status", "provider", "model", "citations_count", "grounded", "grounded_required", "grounded_fail_reason"),
    *("redacted", "redaction_count", "redaction_types"),
    *("advisory_reason", "failure_reason", "safety_flags", "offline"),
)
TASK_CHARACTERS = 80
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_HEADER_BYTES = 4096


def check_metrics_file(path: Path) -> None:
    """Make sure that a row can be added later. Creates nothing.

    Raises InvalidInput: no such folder, a folder itself, not writable, or a file with other columns.
    """
    try:
        if not path.exists():
            if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
                raise InvalidInput(
                    f"{path} cannot be made: {path.parent} is no folder that you may write", field="metrics"
                )
            return
        if not path.is_file() or not os.access(path, os.W_OK):
            raise InvalidInput(f"{path} is no file that you may write", field="metrics")
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES).split(b"\n", 1)[0].rstrip(b"\r")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be used: {getattr(error, 'strerror', error)}", field="metrics") from error
    if header and header != ",".join(COLUMNS).encode():
        raise InvalidInput(f"{path} has other columns than a metrics file; give a new file", field="metrics")


async def append_metrics(path: Path, run: run_pb2.Run, client: DjpClient) -> None:
    """Add the run's row, below a header if the file is new or empty. Rows of several processes do not mix.

    Raises OSError when it cannot be written.
    """
    row = await metrics_row(run, client)
    with open(path, "ab", buffering=0) as file:  # noqa: ASYNC230  one short write, when the run is over
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        added = csv_lines([*([] if size else [COLUMNS]), list(row.values())])
        if file.write(added) < len(added):
            file.truncate(size)  # half a row would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


async def metrics_row(run: run_pb2.Run, client: DjpClient) -> dict[str, str]:
    """The cells about a run, by column. They have the task's beginning, redacted unless the run was not."""
    task, name = run.spec.task, run.spec.trace_name
    if run.spec.redaction != run_pb2.REDACTION_MODE_OFF:
        task = (await client.redact(task, run.spec.redaction_options)).text
        name = (await client.redact(name, run.spec.redaction_options)).text if name else ""
    row = _row(run, one_line(task, TASK_CHARACTERS), one_line(name, TASK_CHARACTERS))
    return {column: harmless(row[column]) for column in COLUMNS}


def _row(run: run_pb2.Run, task: str, trace_name: str) -> dict[str, str]:
    spec, result = run.spec, run.result
    took = run.finished_at.ToNanoseconds() - run.created_at.ToNanoseconds() if run.HasField("finished_at") else 0
    resolved = [found for found in result.citations if found.status == common_pb2.CITATION_STATUS_RESOLVED]
    flagged = sorted({found.reason for found in result.verdict.disqualified if "safety" in found.rule})
    return {
        "timestamp": run.created_at.ToJsonString(),
        "run_id": run.run_id,
        "workflow": spec.workflow,
        "preset": spec.preset,
        "trace_name": trace_name,
        "task": task,
        "tokens_in": str(sum(total.input_tokens for total in result.totals)),
        "tokens_out": str(sum(total.output_tokens for total in result.totals)),
        "tokens": str(result.total_tokens),
        "cost_usd": f"{Decimal(result.total_nano_usd) / NANO_PER_USD:.9f}",
        "duration_s": f"{took / 1e9:.3f}",
        "status": state_name(run.state).replace(" ", "_"),
        "provider": result.model.partition("/")[0],
        "model": result.model,
        "citations_count": str(len(resolved)),
        "grounded": _flag(bool(spec.corpus)),
        "grounded_required": str(spec.grounded_required),
        "grounded_fail_reason": result.grounded_fail_reason,
        "redacted": _flag(bool(result.redaction_counts)),
        "redaction_count": str(sum(result.redaction_counts.values())),
        "redaction_types": ",".join(sorted(kind.lower() for kind in result.redaction_counts)),
        "advisory_reason": result.advisory_reason,
        "failure_reason": run.error.message,
        "safety_flags": "; ".join(flagged),
        "offline": _flag(run.offline),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    cell = one_line(cell)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def csv_lines(rows: list[tuple[str, ...] | list[str]]) -> bytes:
    """The rows, as a spreadsheet reads them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
