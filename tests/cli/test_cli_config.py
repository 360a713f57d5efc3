"""`djp init`, the file of settings, and `djp config show`: what is written, what wins, and what is never shown."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.shared.test_settings_documented import settings_variables

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"djp.env", "budgets.yaml", "redaction/default.json", "presets/house.json", "templates/letter.yaml"}


async def test_init_writes_what_then_counts_and_overwrites_nothing(djp: Any, home: Path) -> None:
    first = await djp("init", "--json")
    assert json.loads(first.out) == {
        "folder": str(home),
        "written": sorted(FILES, key=json.loads(first.out)["written"].index),
        "kept": [],
        "in_force": True,
    }
    assert stat.S_IMODE((home / "djp.env").stat().st_mode) == 0o600
    (home / "budgets.yaml").write_text("global:\n  daily: 7.0\n")
    (home / "djp.env").write_text((home / "djp.env").read_text() + "DJP_POLICY=openai_only\n")

    again = await djp("init")
    assert again.code == 0
    assert "budgets.yaml was there already and stays as it is" in again.out
    assert (home / "budgets.yaml").read_text() == "global:\n  daily: 7.0\n"

    assert "letter" in (await djp("templates", "list")).out
    assert "house" in (await djp("presets", "list")).out
    budgets = json.loads((await djp("budgets", "list", "--json")).out)
    assert budgets["budgets"][0]["daily_nano_usd"] == "7000000000"
    redacted = await djp("redact", stdin=b"It is CUSTOM-123456.\n")
    assert "123456" not in redacted.out
    changed = json.loads((await djp("config", "show", "--changed", "--json")).out)
    assert {one["variable"]: one["value"] for one in changed["settings"]}["DJP_POLICY"] == "openai_only"


@pytest.mark.parametrize("name", ["a folder", 'it\'s # a $HOME "one" \\ back', "Ünïcode"])
async def test_a_folder_of_ones_own_counts_when_it_is_named(name: str, djp: Any, tmp_path: Path) -> None:
    folder = tmp_path / name
    written = await djp("init", str(folder))
    assert "export DJP_ENV_FILE=" in written.out
    djp.env = {"DJP_ENV_FILE": str(folder / "djp.env")}
    shown = json.loads((await djp("config", "show", "--json")).out)
    found = {one["variable"]: one for one in shown["settings"]}
    assert found["DJP_PRESETS"]["value"] == str(folder / "presets")
    assert found["DJP_PRESETS"]["origin"].startswith(f"{folder / 'djp.env'}:")
    assert "house" in (await djp("presets", "list")).out


async def test_flags_win_over_the_environment_and_that_over_the_file(djp: Any, home: Path) -> None:
    await djp("init")
    (home / "djp.env").write_text("DJP_GATEWAY=localhost:1\nMAX_WORKERS=3\nDJP_POLICY=any\n")
    assert "localhost:1 " in (await djp("runs", "list")).err
    djp.env = {"DJP_GATEWAY": "localhost:2", "MAX_WORKERS": ""}
    assert "localhost:2 " in (await djp("runs", "list")).err
    assert "localhost:3 " in (await djp("runs", "list", "--gateway", "localhost:3")).err
    shown = json.loads((await djp("config", "show", "--json")).out)
    found = {one["variable"]: (one["value"], one["origin"]) for one in shown["settings"]}
    assert found["DJP_GATEWAY"] == ("localhost:2", "environment")
    assert found["MAX_WORKERS"] == ("3", f"{home}/djp.env:2")
    assert found["DJP_HEARTBEAT_S"] == ("15.0", "default")
    assert settings_variables() <= found.keys()


async def test_secrets_are_told_to_be_set_and_never_shown(djp: Any) -> None:
    secret = "hush-hush-hush-hush-hush-hush-hush-hush"
    names = ("OPENAI_API_KEY", "DJP_API_KEY", "DJP_STORAGE_S3_SECRET_KEY", "DJP_REDACTION_PSEUDONYM_KEY")
    djp.env = dict.fromkeys(names, secret) | {
        "DJP_GATEWAY_DATABASE_URL": f"postgresql+psycopg://djp:{secret}@db/djp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://djp:{secret}@otel:4317",
        "ANOMALY_SIGMA": secret,
        "DJP_MADE_UP": secret,
    }
    for flags in ((), ("--json",)):
        ended = await djp("config", "show", *flags)
        assert ended.code == 1
        assert secret not in ended.out + ended.err
        assert "ANOMALY_SIGMA: " in ended.err
        assert "DJP_MADE_UP is set, but nothing reads it" in ended.err
    found = {one["variable"]: one["value"] for one in json.loads(ended.out)["settings"]}
    assert {found[name] for name in names} == {"set, hidden"}
    assert found["DJP_GATEWAY_DATABASE_URL"] == "postgresql+psycopg://djp:***@db/djp"
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:4317"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"DJP_HOME\n", "djp.env:1: is no line NAME=value"),
        (b"# fine\n\n= x\n", "is no line NAME=value"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"A=" + b"x" * (1 << 20), "is longer than 1 MiB"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
async def test_a_file_that_is_none_stops_every_command(
    content: bytes | None, says: str, djp: Any, tmp_path: Path
) -> None:
    file = tmp_path / "djp.env"
    if content is not None:
        file.write_bytes(content)
    djp.env = {"DJP_ENV_FILE": str(file)}
    ended = await djp("version")
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_a_folder_of_presets_that_is_none_or_holds_none_is_told(djp: Any, tmp_path: Path) -> None:
    djp.env = {"DJP_PRESETS": str(tmp_path / "nowhere")}
    ended = await djp("presets", "list")
    assert "nowhere is no folder; mend or unset DJP_PRESETS" in ended.err
    (tmp_path / "bad.json").write_text("{}")
    djp.env = {"DJP_PRESETS": str(tmp_path)}
    assert "bad.json is not a valid preset" in (await djp("presets", "list")).err
