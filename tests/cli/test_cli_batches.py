"""`djp batches`: what there is, how it stands, and what a person can do with it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from djp.cli.exits import Exit
from djp.client import connect
from djp.v1 import batch_pb2, run_pb2
from tests.cli.test_cli_batch import a_file, summary

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 500


async def test_a_capped_batch_is_shown_and_goes_on_under_a_higher_cap(djp: Any, tmp_path: Path) -> None:
    none = await djp("batches", "list")
    assert (none.code, "There is no batch yet" in none.out) == (Exit.OK, True)
    missing = await djp("batches", "show", "latest")
    assert (missing.code, "there is no batch yet" in missing.err) == (Exit.BAD_INPUT, True)
    file, out = a_file(tmp_path, 3, "task\n", "Why is row {0} here?\n"), tmp_path / "out"
    command = ("batch", "--input", str(file), "--output", str(out), "--batch-id", "mine", "--max-cost", "0.000001")
    assert (await djp(*command)).code == Exit.DENIED
    shown = await djp("batches", "show", "latest")
    assert shown.code == Exit.OK
    assert "Batch mine is capped: 0 of 3 rows have ended" in shown.out
    assert "Rows: 3 not started" in shown.out
    assert "`djp batches resume mine --max-cost DOLLARS` goes on" in shown.out
    still = await djp("batches", "resume", "mine")
    assert (still.code, "is capped" in still.out) == (Exit.DENIED, True)
    resumed = await djp("batches", "resume", "mine", "--max-cost", "1")
    assert resumed.code == Exit.ADVISORY, resumed.err  # offline, and without documents
    assert "running: 3 of 3, $" in resumed.err
    assert "Batch mine is finished: 3 of 3 rows have ended" in resumed.out
    again = await djp(*command[:-1], "1")
    assert again.code == Exit.ADVISORY
    assert [row["state"] for row in summary(out)] == ["advisory"] * 3
    listed = json.loads((await djp("batches", "list", "--json")).out)["batches"]
    assert [(one["batch_id"], one["state"], one["advisory"]) for one in listed] == [("mine", "BATCH_STATE_FINISHED", 3)]
    assert len(json.loads((await djp("runs", "list", "--json")).out)["runs"]) == 3


async def test_what_cannot_be_says_why(djp: Any, tmp_path: Path) -> None:
    for deed in ("show", "pause", "resume", "cancel"):
        ended = await djp("batches", deed, "nothing")
        assert (ended.code, "nothing" in ended.err) == (Exit.BAD_INPUT, True), ended.err
    wrong = await djp("batches", "resume", "nothing", "--max-cost", "much")
    assert (wrong.code, "--max-cost" in wrong.err) == (Exit.BAD_INPUT, True)
    file = a_file(tmp_path, 1, "task\n", "Why?\n")
    command = ("batch", "--input", str(file), "--output", str(tmp_path / "out"), "--batch-id", "mine")
    assert (await djp(*command, "--max-cost", "0.000001")).code == Exit.DENIED
    cancelled = await djp("batches", "cancel", "mine")
    assert "Batch mine is cancelled: 0 of 1 rows have ended" in cancelled.out
    assert "`djp batch --batch-id mine` with its rows takes it up again" in cancelled.out
    refused = await djp("batches", "resume", "mine", "--json")
    assert refused.code == Exit.FAILED
    assert "is cancelled and cannot be resumed" in json.loads(refused.out)["error"]["message"]
    assert (await djp(*command)).code == Exit.ADVISORY


async def test_a_batch_at_a_gateway_is_paused_gone_on_with_and_cancelled(djp: Any, home: Path) -> None:
    address = f"unix:{home}/gateway.sock"
    server = await djp.start("serve", "all", "--listen", address)
    while b"listening on" not in (line := await server.stderr.readline()):
        assert line
    djp.gateway = address
    async with connect(address) as client:
        # Many more than one worker can do while four commands are called.
        rows = [run_pb2.RunRequest(task=f"Why is row {number} here?") for number in range(ROWS)]
        await client.batches.start(rows, batch_id="many", concurrency=1)
        async for answer in client.batches.watch("many"):
            if answer.row.run_id:
                break
        paused = json.loads((await djp("batches", "pause", "many", "--json")).out)["batch"]
        assert paused["state"] == "BATCH_STATE_PAUSED"
        listed = await djp("batches", "list")
        assert "many" in listed.out
        assert "paused" in listed.out
        resumed = await djp("batches", "resume", "latest", "--concurrency", "2")
        assert resumed.code == Exit.OK  # it goes on there
        assert (await client.batches.get("many")).concurrency == 2
        assert (await djp("batches", "cancel", "many")).code == Exit.OK
        async for answer in client.batches.watch("many"):
            batch = answer.batch
        assert batch.state == batch_pb2.BATCH_STATE_CANCELLED
        assert batch.queued > 0
        document = json.loads((await djp("batches", "show", "many", "--json")).out)
        assert [row["row"] for row in document["rows"]] == list(range(1, ROWS + 1))
        assert sum(bool(row["run_id"]) for row in document["rows"]) == ROWS - batch.queued
    server.send_signal(signal.SIGTERM)
    await server.communicate()
