"""`djp db upgrade`: looks, upgrades, and says what is wrong, for every service's database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

DJP = Path(sys.executable).with_name("djp")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJP_HOME", str(tmp_path))


def upgrade(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DJP, "db", "upgrade", *flags], capture_output=True, text=True, check=False)


def test_looking_changes_nothing_and_upgrading_is_done_once(tmp_path: Path) -> None:
    looked = upgrade("--check")
    assert looked.returncode == 1
    assert looked.stdout.count("is to be upgraded (new → ") == 3
    assert not list(tmp_path.glob("*.db"))
    done = upgrade("--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["changed"] is True
    assert {one["service"]: one["revision"] for one in document["databases"]} == {
        "gateway": "",
        "governance": "",
        "storage": "",
    }
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["gateway.db", "governance.db", "storage.db"]
    again = upgrade("--check")
    assert again.returncode == 0
    assert again.stdout.count("is up to date") == 3


def test_a_database_of_a_newer_release_is_told_and_left_alone(tmp_path: Path) -> None:
    upgrade()
    with closing(sqlite3.connect(tmp_path / "governance.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused = upgrade()
    assert refused.returncode != 0
    assert "governance.db was made by a newer release (revision 9999)" in refused.stderr


def test_a_database_that_is_away_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg://djp:hunter2@/ledger?host={tmp_path}"
    monkeypatch.setenv("DJP_GOVERNANCE_DATABASE_URL", url)
    refused = upgrade("--check")
    assert refused.returncode == 7
    assert "does not answer" in refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr
