"""The command without a gateway: the whole mesh for one run, and a run that is stopped while money is held."""

from __future__ import annotations

import json
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

from djp.mesh.channel import open_channel
from djp.standalone import standalone_mesh
from djp.v1 import common_pb2, governance_pb2, governance_pb2_grpc, run_pb2, run_pb2_grpc

if TYPE_CHECKING:
    from pathlib import Path


async def test_one_command_takes_a_task_to_its_end_and_the_others_look_at_it(djp: Any, docs: Path) -> None:
    first = await djp(
        *("run", "--task", "How is money reserved?", "--grounded-corpus", str(docs), "--seed", "7"),
        *("--metrics", str(docs.parent / "m.csv")),
    )
    assert first.code == 0, first.err
    assert "Offline: no model was called." in first.out
    assert "[Budgets] budgets.md" in first.out

    again = await djp(
        *("run", "--task", "How is money reserved?", "--grounded-corpus", str(docs), "--seed", "7", "--quiet")
    )
    assert first.out.startswith(again.out)

    shown = json.loads((await djp("runs", "show", "latest", "--json")).out)["run"]
    assert shown["state"] == "RUN_STATE_PUBLISHED"
    totals = shown["result"]["totals"]
    assert sum(int(total["cost_nano_usd"]) for total in totals) == int(shown["result"]["total_nano_usd"]) > 0

    trace = await djp("trace", shown["run_id"])
    services = {"gateway", "debate", "judge", "redaction", "grounding", "governance", "storage"}
    assert services <= set(trace.out.split())
    validated = await djp("validate")
    assert "Stored artifacts validate: 2" in validated.out
    assert validated.code == 0


async def test_ctrl_c_ends_the_run_and_gives_its_money_back(djp: Any, home: Path) -> None:
    """The ledger is kept busy, so that the signal meets a run that waits for its reservation."""
    assert (await djp("runs", "list")).code == 0
    ledger = sqlite3.connect(home / "governance.db", isolation_level=None)
    ledger.execute("BEGIN IMMEDIATE")
    process = await djp.start("run", "--task", "How is money reserved?")
    assert process.stderr is not None
    while b"project" not in (line := await process.stderr.readline()):
        assert line, "it ended before it asked for its reservation"
    process.send_signal(signal.SIGINT)
    ledger.execute("ROLLBACK")
    _, err = await process.communicate()

    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "interrupted: the run is cancelled; what it had not spent is given back"
    ledger.close()
    async with standalone_mesh() as address, open_channel(address) as channel:
        governance = governance_pb2_grpc.GovernanceServiceStub(channel)
        budgets = (await governance.ListBudgets(governance_pb2.ListBudgetsRequest())).budgets
        listed = await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest())
    windows = [window for budget in budgets for window in budget.windows]
    assert windows
    assert [window.reserved_nano_usd for window in windows] == [0] * len(windows)
    assert [(run.state, run.error.reason) for run in listed.runs] == [
        (run_pb2.RUN_STATE_CANCELLED, common_pb2.ERROR_REASON_CANCELLED)
    ]
