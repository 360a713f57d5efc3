"""`djp scale`: the rule that is in force, and modelled loads, drawn and as files."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.scale import print_config
from djp.cli.simulate import COLUMNS, SimulateFlags, simulate
from djp.mesh.errors import InvalidInput
from djp.scaling.loads import Load
from djp.scaling.rule import Tuning

if TYPE_CHECKING:
    from pathlib import Path


def flags(**changes: Any) -> SimulateFlags:
    whole = {"profile": Load.RAMP, "rate": None, "run_seconds": 1.0, "seconds": 300.0, "seed": 1}
    return SimulateFlags(**{**whole, "tuning": None, "png": None, "csv": None, "as_json": False, **changes})


def test_config_tells_values_and_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TARGET_QUEUE_DEPTH", "1234")
    assert print_config(None, as_json=False) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["TARGET_QUEUE_DEPTH", "1,234", "environment"] in lines
    assert ["MAX_WORKERS", "12", "tuning", "balanced"] in lines

    assert print_config(Tuning.COST, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tuning"] == "cost"
    assert {"variable": "SCALE_DOWN_STEP", "value": 2, "origin": "tuning cost"} in told["settings"]


@pytest.mark.parametrize("profile", Load)
def test_a_load_is_drawn_and_written(
    profile: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert simulate(flags(profile=profile, csv=tmp_path / "s.csv", png=tmp_path / "s.png")) == 0
    shown = capsys.readouterr().out
    for heading in ("workers, rule", "workers, HPA", "queue (runs), rule", "p95 wait (s), HPA", "worker-hours"):
        assert heading in shown
    assert max(map(len, shown.splitlines())) <= 80
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["scaler"] for row in rows] == ["rule"] * 150 + ["hpa"] * 150
    assert {int(row["workers"]) for row in rows} <= set(range(2, 13))
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for seed in (7, 7, 8):
        simulate(flags(seed=seed, as_json=True, tuning=Tuning.LATENCY))
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["figures"] != told[2]["figures"]
    assert told[0]["rule"]["min_workers"] == 5
    assert told[0]["figures"]["rule"]["most_direction_changes_in_a_cool_down"] <= 1


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"rate": float("nan")}, ["rate"]),
        ({"rate": float("inf")}, ["rate"]),
        ({"rate": 0.0, "seconds": -1.0, "run_seconds": float("nan")}, ["run_seconds", "seconds", "rate"]),
        ({"rate": 1e6}, ["rate"]),
        ({"run_seconds": 1e-9}, ["rate"]),
        ({"seconds": 1.0}, ["seconds"]),
        ({"seconds": 604_800.0, "rate": 0.1}, ["seconds"]),
    ],
)
def test_every_bad_number_is_named(given: dict[str, Any], fields: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALE_DECISION_INTERVAL_MS", "2000" if given.get("seconds") != 604_800.0 else "100")
    with pytest.raises(InvalidInput) as caught:
        simulate(flags(**given))
    assert [one.field for one in caught.value.violations] == fields


def test_a_picture_without_matplotlib_or_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=r"\.png, \.svg and \.pdf"):
        simulate(flags(png=tmp_path / "picture.exe"))
    monkeypatch.delitem(sys.modules, "djp.cli.scale_picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InvalidInput, match=r"djp-workflow\[plots\]"):
        simulate(flags(png=tmp_path / "picture.png"))


async def test_the_command(djp: Any) -> None:
    ended = await djp("scale", "simulate", "--profile", "drop", "--run-seconds", "1", "--seconds", "400", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["figures"]["rule"]["to_minimum_s"] > 0
    djp.env["MIN_WORKERS"] = "99"
    ended = await djp("scale", "config")
    assert ended.code == 2
    assert "MIN_WORKERS (99) is above MAX_WORKERS (12)" in ended.err
    assert "Traceback" not in ended.err


async def test_decisions_have_a_log_level_of_their_own(djp: Any, home: Path) -> None:
    djp.env |= {"DJP_LOG_LEVEL": "ERROR", "AUTOSCALER_LOG_LEVEL": "DEBUG", "SCALE_DECISION_INTERVAL_MS": "100"}
    server = await djp.start("serve", "all", "--listen", f"unix:{home}/gateway.sock")
    line = (await server.stderr.readline()).decode()
    assert "DEBUG djp.scaling.autoscaler: Scale decision: hold 2 (calm, and there are MIN_WORKERS)" in line
    server.kill()
    await server.communicate()
    djp.env["AUTOSCALER_LOG_LEVEL"] = "loud"
    refused = await djp("serve", "all", "--listen", f"unix:{home}/gateway.sock")
    assert refused.code != 0
    assert "AUTOSCALER_LOG_LEVEL" in refused.err
