"""`--metrics FILE.csv`: rows that add up, say no secret, are no formula and do not mix."""

from __future__ import annotations

import asyncio
import csv
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.flags import RunFlags
from djp.cli.metrics import COLUMNS, check_metrics_file
from djp.cli.run import run
from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


async def record(gateway: Any, path: Path, **changes: Any) -> None:
    gateway.run = gateway.finished(**changes)
    await run(RunFlags(task="x", gateway=gateway.address, quiet=True, metrics=path))


async def test_a_row_tells_the_run(gateway: Any, tmp_path: Path) -> None:
    await record(gateway, tmp_path / "m.csv")
    await record(gateway, tmp_path / "m.csv", state="NO_RESULT")

    first, second = rows(tmp_path / "m.csv")
    assert first == {
        "timestamp": "2026-03-01T10:00:00Z",
        "run_id": gateway.run.run_id,
        "workflow": "adhoc",
        "preset": "thorough",
        "trace_name": "",
        "task": "How are budgets kept?",
        "tokens_in": "250",
        "tokens_out": "130",
        "tokens": "380",
        "cost_usd": "0.002200000",
        "duration_s": "2.500",
        "status": "published",
        "provider": "offline",
        "model": "offline/precise",
        "citations_count": "1",
        "grounded": "true",
        "grounded_required": "1",
        "grounded_fail_reason": "",
        "redacted": "true",
        "redaction_count": "3",
        "redaction_types": "email,phone",
        "advisory_reason": "",
        "failure_reason": "",
        "safety_flags": "",
        "offline": "true",
    }
    assert second["status"] == "no_result"


async def test_cells_are_no_formulas_have_no_secrets_and_stay_cells(gateway: Any, tmp_path: Path) -> None:
    result = gateway.result(model="@SUM(1)/x", advisoryReason='+1",\n"next')
    spec = {"task": '=HYPERLINK("x")\n ada@example.org \x1b[2J' + "y" * 200, "traceName": "-1 ada@example.org"}
    await record(gateway, tmp_path / "m.csv", state="ADVISORY", spec=spec, result=result)

    (row,) = rows(tmp_path / "m.csv")
    assert row["task"].startswith('\'=HYPERLINK("x") [REDACTED:EMAIL] ␛[2J')
    assert len(row["task"]) == 81
    assert row["trace_name"] == "'-1 [REDACTED:EMAIL]"
    assert row["model"] == "'@SUM(1)/x"
    assert row["advisory_reason"] == '\'+1", "next'


async def test_a_failed_run_has_a_row_too(gateway: Any, tmp_path: Path) -> None:
    error = {"reason": "ERROR_REASON_INTERNAL", "message": "all debaters failed"}
    await record(gateway, tmp_path / "m.csv", state="FAILED", error=error, result=None)

    (row,) = rows(tmp_path / "m.csv")
    assert (row["status"], row["failure_reason"], row["cost_usd"]) == ("failed", "all debaters failed", "0.000000000")


async def test_runs_that_end_at_once_do_not_mix_their_rows(gateway: Any, tmp_path: Path) -> None:
    flags = RunFlags(task="x", gateway=gateway.address, quiet=True, metrics=tmp_path / "m.csv")
    await asyncio.gather(*(run(flags) for _ in range(20)))

    assert [row["run_id"] for row in rows(tmp_path / "m.csv")] == [gateway.run.run_id] * 20


async def test_a_row_that_cannot_be_added_costs_nobody_the_text(
    gateway: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for a full disk: the row's first half still fits."""
    file = tmp_path / "m.csv"
    await record(gateway, file)
    whole = file.read_bytes()
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        code = await run(RunFlags(task="x", gateway=gateway.address, quiet=True, metrics=file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    shown = capsys.readouterr()
    assert code == 1
    assert shown.out == gateway.run.result.text
    assert f"could not be added to {file}" in shown.err
    assert file.read_bytes() == whole


def test_a_file_that_cannot_take_rows_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").touch()
    for path, says in (
        (tmp_path / "other.csv", "other columns"),
        (tmp_path, "no file"),
        (tmp_path / "missing" / "m.csv", "no folder"),
        (tmp_path / "other.csv" / "m.csv", "no folder|cannot be used"),
    ):
        with pytest.raises(InvalidInput, match=says):
            check_metrics_file(path)
    for path in (tmp_path / "empty.csv", tmp_path / "new.csv"):
        check_metrics_file(path)
    assert not (tmp_path / "new.csv").exists()
    (tmp_path / "good.csv").write_text(",".join(COLUMNS) + "\n")
    check_metrics_file(tmp_path / "good.csv")
