"""`djp load` on a real mesh, at the rate of each profile and stopped in the middle; `djp scale status` meanwhile."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.load import COLUMNS, LoadFlags, drive
from djp.mesh.errors import InvalidInput, ResourceExhausted
from djp.scaling.loads import Load, arrivals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDED = {"published", "advisory"}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def flags(**changes: Any) -> LoadFlags:
    whole = {"profile": Load.SUSTAIN, "rate": 40.0, "seconds": 0.5, "seed": 1, "task": "x", "csv": None}
    return LoadFlags(**{**whole, "gateway": None, "as_json": True, **changes})


@asynccontextmanager
async def serving_all(djp: Any, folder: Path) -> AsyncIterator[None]:
    """`djp serve all`, which the commands then ask."""
    address = f"unix:{folder}/gateway.sock"
    process = await djp.start("serve", "all", "--listen", address, stdout=None)
    try:
        while b"listening on" not in (line := await process.stderr.readline()):
            assert line, "it ended before it listened"
        reading = asyncio.create_task(process.stderr.read())  # or it would wait for room in the pipe
        djp.gateway = address
        yield
        await djp_idle(djp)
    finally:
        process.terminate()
        await process.wait()
    await reading


async def djp_idle(djp: Any) -> None:
    ended = await djp("runs", "list", "--limit", "1000", "--json")
    states = {run["state"] for run in json.loads(ended.out)["runs"]}
    assert not states & {"RUN_STATE_QUEUED", "RUN_STATE_RUNNING"}, "nothing goes on when the command has ended"


async def test_every_profile_drives_a_real_mesh(djp: Any, short_folder: Path, tmp_path: Path) -> None:
    async with serving_all(djp, short_folder):
        for profile in Load:
            path = tmp_path / f"{profile}.csv"
            ended = await djp(
                *("load", "--profile", profile, "--rate", "4", "--seconds", "2", "--seed", "5"),
                *("--csv", str(path), "--json"),
            )
            assert ended.code == 0, ended.err + ended.out
            due = [f"{at:.3f}" for at in arrivals(profile, rate=4, seconds=2, seed=5)]
            found = rows(path)
            assert sorted(row["time_s"] for row in found) == due
            assert {row["state"] for row in found} <= ENDED
            for row in found:
                assert float(row["time_s"]) <= float(row["started_s"]) <= float(row["ended_s"])
                assert 1 <= int(row["in_flight"]) <= len(found)
            told = json.loads(ended.out)
            assert told["runs"] == len(found) == sum(told["states"].values())
            assert told["p95_latency_ms"] >= told["p95_wait_ms"] >= 0


async def test_ctrl_c_starts_no_more_cancels_the_rest_and_leaves_a_whole_file(
    djp: Any, short_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "load.csv"
    async with serving_all(djp, short_folder):
        process = await djp.start(
            "load", "--profile", "sustain", "--rate", "6", "--seconds", "3600", "--csv", str(path)
        )
        while not path.exists() or path.read_text().count("\n") < 4:
            assert process.returncode is None
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert process.returncode == 130, err
        assert b"Stopped: no further run was started" in out
        found = rows(path)
        assert {row["state"] for row in found} <= {*ENDED, "stopped"}
        listed = json.loads((await djp("runs", "list", "--limit", "1000", "--json")).out)["runs"]
        assert {row["run_id"] for row in found} == {run["run_id"] for run in listed}


async def test_refusals_are_rows_and_a_problem(
    gateway: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.refusal = ResourceExhausted("=HYPERLINK(1)\nthe queue is full")
    assert await drive(flags(gateway=gateway.address, csv=tmp_path / "l.csv")) == 1
    found = rows(tmp_path / "l.csv")
    assert len(found) == json.loads(capsys.readouterr().out)["states"]["refused"] > 5
    assert tuple(found[0]) == COLUMNS
    assert {(row["state"], row["error"]) for row in found} == {("refused", "'=HYPERLINK(1) the queue is full")}


async def test_a_file_that_cannot_be_written_stops_the_load(gateway: Any) -> None:
    from pathlib import Path

    with pytest.raises(OSError, match="No space left"):
        await drive(flags(gateway=gateway.address, csv=Path("/dev/full")))


async def test_without_a_gateway_nothing_is_written_over(djp: Any, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("of yesterday")
    ended = await djp("load", "--gateway", f"unix:{tmp_path}/nobody.sock", "--csv", str(tmp_path / "l.csv"))
    assert ended.code == 7
    assert "does not answer" in ended.err
    assert (tmp_path / "l.csv").read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"rate": float("nan"), "seconds": float("inf"), "task": "\n"}, ["seconds", "rate", "task"]),
        ({"rate": 0.0}, ["rate"]),
        ({"rate": 1e9}, ["rate"]),
        ({"seconds": 86_401.0}, ["seconds"]),
    ],
)
async def test_every_bad_flag_is_named(given: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await drive(flags(**given))
    assert [one.field for one in caught.value.violations] == fields


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_status_and_watch_tell_the_queue_of_a_gateway(djp: Any, short_folder: Path) -> None:
    djp.env |= {"DJP_METRICS_PORT": str(_free_port()), "MAX_WORKERS": "1", "MIN_WORKERS": "1"}
    async with serving_all(djp, short_folder):
        djp.env["MAX_WORKERS"] = "12"
        load = await djp.start("load", "--profile", "sustain", "--rate", "20", "--seconds", "3600")
        told = {"queue_depth": 0}
        while told["queue_depth"] < 3:
            ended = await djp("scale", "status", "--workers", "1", "--json")
            assert ended.code == 0, ended.err
            told = json.loads(ended.out)
        assert (told["workers"], told["working"]) == (1, 1)
        assert told["oldest_wait_ms"] > 0
        assert told["wanted"] in (1, 3)
        watch = await djp.start("scale", "watch", "--tuning", "cost", stderr=None)
        line = await watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 130
        assert b"runs wait, the first for" in line
        load.send_signal(signal.SIGINT)
        await load.communicate()
        assert load.returncode == 130


async def test_an_address_without_the_gauges_is_told(djp: Any) -> None:
    assert "set DJP_METRICS_PORT" in (await djp("scale", "status")).err
    for address in ("file:///etc/passwd", "localhost", "a b:1", "evil@host:80", "host:80/x"):
        ended = await djp("scale", "status", "--metrics", address)
        assert (ended.code, "no host:port" in ended.err) == (2, True), ended.err

    async def answer(page: bytes) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(page)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            ended = await djp("scale", "status", "--metrics", f"127.0.0.1:{port}")
        assert ended.code in (6, 7)
        assert "Traceback" not in ended.err
        return str(ended.err)

    good = b"HTTP/1.0 200 OK\r\n\r\n"
    assert "djp_queue_depth" in await answer(good + b"# TYPE up gauge\nup 1\n")
    assert "djp_runs_working" in await answer(good + b"djp_queue_depth NaN\n\xff\xfe{{{" + b"x" * 100_000)
    assert "no metrics at" in await answer(b"SSH-2.0-x\r\n")
    assert "no metrics at" in await answer(b"HTTP/1.0 500 Oh\r\n\r\n")
