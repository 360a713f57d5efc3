"""`djp load` on a real mesh, at the rate of each profile and stopped in the middle; `djp scale status` meanwhile."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
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
    return LoadFlags(**{**whole, "debater": "offline/lead", "gateway": None, "as_json": True, **changes})


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


async def test_the_guides_name_of_a_profile_and_a_name_that_is_none(djp: Any) -> None:
    for name in ("ramp_and_sustain", "ramp-and-sustain"):
        ended = await djp("scale", "simulate", "--profile", name, "--seconds", "60", "--json")
        assert json.loads(ended.out)["load"]["profile"] == "ramp", ended.err
    ended = await djp("load", "--profile", "nothing")
    assert ended.code == 2
    assert "sustain, burst, ramp, drop" in " ".join(ended.err.split())


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


async def test_status_and_watch_tell_the_workers_of_a_gateway(djp: Any, short_folder: Path) -> None:
    djp.env |= {"MIN_WORKERS": "1", "MAX_WORKERS": "3", "TARGET_QUEUE_DEPTH": "1", "SCALE_DECISION_INTERVAL_MS": "200"}
    async with serving_all(djp, short_folder):
        load = await djp.start("load", "--profile", "sustain", "--rate", "60", "--seconds", "1")
        told: dict[str, Any] = {"changes": []}
        while not told["changes"]:
            ended = await djp("scale", "status", "--json")
            assert ended.code == 0, ended.err
            told = json.loads(ended.out)
        assert (told["executor"], told["min_workers"], told["max_workers"]) == ("standalone", 1, 3)
        change = told["changes"][0]
        assert (change["direction"], change["workers_before"], change["workers"]) == ("up", 1, 3)
        assert "target" in change["reason"]
        assert told["decisions"] >= told["ups"] >= 1
        shown = (await djp("scale", "status")).out
        assert "gateway standalone: " in shown
        assert "last change: " in shown
        watch = await djp.start("scale", "watch", stderr=None)
        line = (await watch.stdout.readline()).decode()
        assert f"up 1 -> 3: {change['reason']}" in line
        while "workers, " not in line:
            line = (await watch.stdout.readline()).decode()
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 130
        await load.communicate()
        assert load.returncode == 0


async def test_a_gateway_has_to_be_named_and_to_answer(djp: Any, tmp_path: Path) -> None:
    for command in ("status", "watch"):
        ended = await djp("scale", command)
        assert (ended.code, "--gateway: name the gateway" in ended.err) == (2, True), ended.err
    ended = await djp("scale", "status", "--gateway", f"unix:{tmp_path}/nobody.sock", "--json")
    assert ended.code == 7
    assert "does not answer" in json.loads(ended.out)["error"]["message"]
    watch = await djp.start("scale", "watch", "--gateway", f"unix:{tmp_path}/nobody.sock", stderr=None)
    assert b"does not answer" in await watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert await watch.wait() == 130
