"""`djp batch`: every row once, whatever dies; bad rows are told before the first is run; a cap that is not passed."""

from __future__ import annotations

import csv
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.batch_rows import BatchFlags, read_rows
from djp.cli.exits import Exit
from djp.client import connect
from djp.mesh.errors import InvalidInput
from djp.v1 import batch_pb2, run_pb2

if TYPE_CHECKING:
    import asyncio

DJP = str(Path(sys.executable).with_name("djp"))
HEADING = "meeting_title,meeting_date,attendees,transcript\n"
ROW = '{0},2025-10-02,"Alice, Bob","Alice: Let us begin with the backlog.\nBob: Yes, number {0}."\n'


def a_file(folder: Path, rows: int, heading: str = HEADING, row: str = ROW) -> Path:
    file = folder / "batch.csv"
    file.write_text(heading + "".join(row.format(number) for number in range(1, rows + 1)), encoding="utf-8")
    return file


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def test_every_row_is_run_once_and_the_same_command_goes_on(djp: Any, tmp_path: Path) -> None:
    out = tmp_path / "results"
    command = ("batch", "--template", "meeting_brief", "--input", str(a_file(tmp_path, 3)), "--output", str(out))
    first = await djp(*command)
    assert first.code == Exit.ADVISORY, first.err  # offline, and without documents
    rows = summary(out)
    assert [(row["row"], row["state"], row["file"]) for row in rows] == [
        (str(n), "advisory", f"0000{n}.md") for n in (1, 2, 3)
    ]
    assert "number 2" in (out / "00002.md").read_text()
    again = await djp(*command, "--json", "--concurrency", "1")
    told = json.loads(again.out)
    assert [row["run_id"] for row in told["rows"]] == [row["run_id"] for row in rows]
    assert told["states"] == {"advisory": 3}
    listed = json.loads((await djp("runs", "list", "--json")).out)["runs"]
    assert len(listed) == 3
    other = await djp(*command, "--batch-id", "other")
    assert len(json.loads((await djp("runs", "list", "--json")).out)["runs"]) == 6, other.err


async def test_bad_rows_are_told_a_line_each_and_nothing_is_started(djp: Any, tmp_path: Path) -> None:
    file = a_file(tmp_path, 2)
    file.write_text(file.read_text() + 'x,tomorrow,"A, B","too short"\n,2025-10-02,,\n', encoding="utf-8")
    ended = await djp("batch", "--template", "meeting_brief", "--input", str(file), "--output", str(tmp_path / "out"))
    assert ended.code == Exit.BAD_INPUT
    assert "row 3: run.inputs.meeting_date: 'tomorrow' is no date" in ended.err
    assert "row 4: run.inputs.meeting_title: is missing" in ended.err
    assert "error: --input: 2 of 4 rows are bad; nothing was started" in ended.err
    assert json.loads((await djp("runs", "list", "--json")).out)["runs"] == []


async def test_a_cap_in_the_middle_stops_it_and_a_higher_one_goes_on(djp: Any, tmp_path: Path) -> None:
    file, out = a_file(tmp_path, 4, "task\n", "Why is row {0} here?\n"), tmp_path / "out"
    one = json.loads((await djp("run", "--task", "Why is row 1 here?", "--json")).out)["run"]
    bound, cost = int(one["projection"]["total"]["cost_nano_usd"]), int(one["result"]["total_nano_usd"])
    assert 0 < cost < bound
    cap = bound + cost + cost // 2  # the third row is held at its bound, on top of what two have cost
    command = ("batch", "--input", str(file), "--output", str(out), "--concurrency", "2")
    capped = await djp(*command, "--max-cost", f"{cap / 1e9:.9f}")
    assert capped.code == Exit.DENIED
    assert "has no room for the next row" in capped.out
    rows = summary(out)
    assert [bool(row["run_id"]) for row in rows] == [True, True, False, False]
    assert sum(float(row["cost_usd"]) for row in rows[:2]) * 1e9 <= cap
    assert rows[-1]["reason"] == "not started: the cost cap would be passed"
    whole = await djp(*command, "--max-cost", "1")
    assert whole.code == Exit.ADVISORY
    assert [row["run_id"] for row in summary(out)][:2] == [row["run_id"] for row in rows[:2]]


async def test_a_batch_whose_command_and_gateway_are_killed_runs_each_row_once(
    djp: Any, home: Path, tmp_path: Path
) -> None:
    address = f"unix:{home}/gateway.sock"

    async def serve() -> asyncio.subprocess.Process:
        server: asyncio.subprocess.Process = await djp.start("serve", "all", "--listen", address)
        assert server.stderr is not None
        while b"listening on" not in (line := await server.stderr.readline()):
            assert line
        return server

    server = await serve()
    file, out = a_file(tmp_path, 24, "task\n", "Why is row {0} here?\n"), tmp_path / "out"
    command = ("batch", "--input", str(file), "--output", str(out), "--gateway", address, "--concurrency", "4")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        stopped = await djp.start(*command)
        while not (line := await stopped.stderr.readline()).startswith(b"running:"):
            assert line
        stopped.send_signal(number)
        _, err = await stopped.communicate()
        assert number == signal.SIGKILL or b"the same command goes on with the others" in err
        if number == signal.SIGTERM:
            async with connect(address) as client:
                (batch,) = await client.batches.list()
                assert batch.state == batch_pb2.BATCH_STATE_PAUSED
                assert batch.queued > 0
    server.kill()  # while it goes on by itself
    await server.communicate()
    server = await serve()
    ended = await djp(*command)
    assert ended.code == Exit.ADVISORY, ended.err
    async with connect(address) as client:
        assert len((await client.list_runs(run_pb2.ListRunsRequest(page_size=100))).runs) == 24
    rows = summary(out)
    assert len({row["run_id"] for row in rows}) == 24
    assert sorted(one.name for one in out.iterdir()) == sorted(["summary.csv", *(f"{n:05d}.md" for n in range(1, 25))])
    server.terminate()
    await server.communicate()


async def test_another_row_in_a_named_batch_is_refused(djp: Any, tmp_path: Path) -> None:
    file, out = a_file(tmp_path, 2, "task\n", "Why is row {0} here?\n"), tmp_path / "out"
    command = ("batch", "--input", str(file), "--output", str(out), "--batch-id", "mine")
    assert (await djp(*command)).code == Exit.ADVISORY
    file.write_text("task\nWhy is row 1 here?\nAnother one\n")
    ended = await djp(*command)
    assert ended.code == Exit.BAD_INPUT
    assert "--batch-id: batch mine has another row 2, or none; choose another one for other rows" in ended.err
    long = await djp(*command[:-1], "other", "--grounded-required", "500")
    assert (long.code, "row 1: --grounded-required: must be greater" in long.err) == (Exit.BAD_INPUT, True), long.err


def test_every_bad_row_is_a_line_however_many_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = a_file(tmp_path, 700, "task\n", "Why is row {0} here?\n")
    file.write_text(file.read_text() + "a,b\n")
    flags = BatchFlags(source=file, output=tmp_path, grounded_required=500)
    with pytest.raises(InvalidInput, match="701 of 701 rows are bad; nothing was started"):
        read_rows(flags)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == [f"row {number}" for number in range(1, 702)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no row below its heading"),
        (b"task\n", "has no row below its heading"),
        (b"task\n\n  \n", "has no row below its heading"),
        (b"task,task\na,b\n", "has the column 'task' twice"),
        (b"question\na\n", "without --template there is one, `task`"),
        (b"\xff\xfe\n", "is not UTF-8 text"),
        (b'task\n"open\n', "is not CSV"),
        (b"task\na,b\n", "1 of 1 rows is bad"),
        (b"task\n" + b"x" * 300_000 + b"\n", "is not CSV: field larger than"),
    ],
)
def test_what_is_no_batch_says_why(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "batch.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=why):
        read_rows(BatchFlags(source=tmp_path / "batch.csv", output=tmp_path))


def test_cells_are_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "batch.csv").write_text('\ufefftask\n"two\nlines, and ""quotes"""\n=cmd|x\n', encoding="utf-8")
    rows, digest = read_rows(BatchFlags(source=tmp_path / "batch.csv", output=tmp_path))
    assert [row.task for row in rows] == ['two\nlines, and "quotes"', "=cmd|x"]
    assert len(digest) == 12
