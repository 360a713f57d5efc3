"""`--redact all` and `--restore-values`: who asks reads the values, and nobody else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.exits import Exit
from djp.cli.flags import RunFlags, run_request
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

VALUE = "ada@example.org"


@pytest.fixture
def hidden(gateway: Any) -> Any:
    """The gateway, whose run hid a value."""
    gateway.run = gateway.finished(result=gateway.result(text="Ask [EMAIL_1].\n"))
    gateway.run.spec.redaction = run_pb2.REDACTION_MODE_ALL
    gateway.restored = gateway.finished(result=gateway.result(text=f"Ask {VALUE}.\n"))
    gateway.restored.spec.redaction = run_pb2.REDACTION_MODE_ALL
    return gateway


async def test_placeholders_are_shown_unless_the_values_are_asked_for(djp_at: Any, hidden: Any) -> None:
    ended = await djp_at("run", "--task", "x", "--redact", "all")
    assert ended.code == 0
    assert ended.out.startswith("Ask [EMAIL_1].\n")
    assert "--restore-values shows them" in ended.out
    assert hidden.started[0].redaction == run_pb2.REDACTION_MODE_ALL
    ended = await djp_at("run", "--task", "x", "--redact", "all", "--restore_values")
    assert ended.out.startswith(f"Ask {VALUE}.\n")
    assert "shown here, not in the artifact" in ended.out
    assert VALUE not in ended.err
    quiet = await djp_at("run", "--task", "x", "--redact", "all", "--restore-values", "--quiet")
    assert quiet.out == f"Ask {VALUE}.\n"


async def test_an_earlier_run_is_shown_either_way(djp_at: Any, hidden: Any) -> None:
    shown = await djp_at("runs", "show", hidden.run.run_id)
    assert "Ask [EMAIL_1]." in shown.out
    assert VALUE not in shown.out
    shown = await djp_at("runs", "show", "3f2b8c1e", "--restore-values", "--json")
    assert json.loads(shown.out)["run"]["result"]["text"] == f"Ask {VALUE}.\n"


@pytest.mark.usefixtures("hidden")
async def test_a_table_of_runs_has_no_values(djp_at: Any, tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    ended = await djp_at("run", "--task", "x", "--redact", "all", "--restore-values", "--metrics", str(table))
    assert VALUE in ended.out
    assert VALUE not in table.read_text()


async def test_values_that_are_gone_leave_the_text_with_its_placeholders(djp_at: Any, hidden: Any) -> None:
    hidden.restored = FailedPrecondition("the values are not kept any more", field="restore_values")
    ended = await djp_at("run", "--task", "x", "--redact", "all", "--restore-values")
    assert ended.code == Exit.PROBLEM
    assert ended.out.startswith("Ask [EMAIL_1].\n")
    assert "--restore-values: the values are not kept any more" in ended.err
    shown = await djp_at("runs", "show", "3f2b8c1e", "--restore-values")
    assert shown.code
    assert "--restore-values: the values are not kept any more" in shown.err


async def test_a_run_that_failed_says_why_and_nothing_of_values(djp_at: Any, hidden: Any) -> None:
    hidden.run = hidden.finished("FAILED", result=None, error={"reason": "ERROR_REASON_UNAVAILABLE", "message": "away"})
    hidden.run.spec.redaction = run_pb2.REDACTION_MODE_ALL
    ended = await djp_at("run", "--task", "x", "--redact", "all", "--restore-values")
    assert ended.code == Exit.FAILED
    assert "away" in ended.out
    assert "values" not in ended.out + ended.err


@pytest.mark.parametrize(
    "flags",
    [
        RunFlags(task="x", restore_values=True),
        RunFlags(task="x", restore_values=True, redact="off"),
        RunFlags(task="x", restore_values=True, redact="all", dry_run=True),
    ],
)
def test_flags_that_hide_nothing_have_nothing_to_put_back(flags: RunFlags) -> None:
    with pytest.raises(InvalidInput) as refused:
        run_request(flags)
    assert [violation.field for violation in refused.value.violations] == ["restore_values"]
