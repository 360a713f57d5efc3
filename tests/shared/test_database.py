"""Databases: they come up whole or not at all, by either way to the same tables, and say clearly what is wrong."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import AsyncExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import djp.database
from djp.database import open_engine, reading
from djp.mesh.errors import FailedPrecondition, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

SERVICES = ("djp_gateway", "djp_governance", "djp_storage")

NOTES = sa.MetaData()
notes = sa.Table("notes", NOTES, sa.Column("note", sa.Text, primary_key=True))

ENV = "from djp import migration_env\n\nmigration_env.run()\n"
FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("notes", sa.Column("note", sa.Text, primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("notes", sa.Column("mood", sa.Text))
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "100% migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "0001_notes.py").write_text(FIRST)
    return folder


def url_of(path: Path | str) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def opened(url: str, migrations: Path, metadata: sa.MetaData | None = None) -> None:
    engine = await open_engine(url, migrations, metadata)
    await engine.dispose()


def schema(path: Path) -> set[tuple[Any, ...]]:
    """Tables, columns, keys and indexes as SQLite has them, whatever the statements looked like that made them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: set[tuple[Any, ...]] = set()
        for table in names:
            found |= {(table, "column", *row) for row in connection.execute(f"PRAGMA table_info({table})")}
            found |= {(table, "references", *row) for row in connection.execute(f"PRAGMA foreign_key_list({table})")}
            for _, index, unique, origin, partial in connection.execute(f"PRAGMA index_list({table})").fetchall():
                columns = [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
                name = index if origin == "c" else origin
                found.add((table, "index", name, unique, partial, *columns))
    connection.close()
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_a_new_database_has_the_tables_that_the_migrations_make(service: str, tmp_path: Path) -> None:
    folder = Path(str(import_module(service).__file__)).parent / "migrations"
    metadata = import_module(f"{service}.server").metadata  # all tables, whatever module they are in
    await opened(url_of(tmp_path / "made.db"), folder, metadata)
    await opened(url_of(tmp_path / "migrated.db"), folder)
    assert schema(tmp_path / "made.db") == schema(tmp_path / "migrated.db")
    with closing(sqlite3.connect(tmp_path / "made.db")) as connection, connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("metadata", [NOTES, None], ids=["made", "migrated"])
async def test_an_older_database_is_upgraded_and_keeps_its_rows(
    metadata: sa.MetaData | None, migrations: Path, tmp_path: Path
) -> None:
    url = url_of(tmp_path / "notes.db")
    engine = await open_engine(url, migrations, metadata)
    async with engine.begin() as connection:
        await connection.execute(sa.insert(notes).values(note="old"))
    await engine.dispose()
    (migrations / "versions" / "0002_mood.py").write_text(SECOND)
    engine = await open_engine(url, migrations, metadata)
    async with engine.connect() as connection:
        assert (await connection.execute(sa.text("SELECT note, mood FROM notes"))).all() == [("old", None)]
        assert (await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar() == "0002"
    await engine.dispose()


async def test_an_upgrade_that_fails_leaves_the_database_as_it_was(migrations: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    await opened(url_of(path), migrations)
    before = schema(path)
    (migrations / "versions" / "0002_mood.py").write_text(SECOND + "    raise RuntimeError('half-way')\n")
    with pytest.raises(RuntimeError, match="half-way"):
        await open_engine(url_of(path), migrations)
    assert schema(path) == before
    (migrations / "versions" / "0002_mood.py").write_text(SECOND)
    shutil.rmtree(migrations / "versions" / "__pycache__", ignore_errors=True)
    await opened(url_of(path), migrations)
    assert schema(path) > before


async def test_a_database_of_a_newer_release_is_refused_untouched(migrations: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    await opened(url_of(path), migrations)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0007'")
    connection.close()
    with pytest.raises(FailedPrecondition, match=r"notes\.db was made by a newer release \(revision 0007\); upgrade"):
        await open_engine(url_of(path), migrations, NOTES)


OPEN = """
import asyncio, sys
from pathlib import Path
from djp.database import open_engine
from djp.mesh.errors import DjpError
from djp_governance.adapters.tables import metadata
from djp_governance.server import MIGRATIONS

async def main():
    engine = await open_engine(sys.argv[1], MIGRATIONS, metadata if sys.argv[2] == "made" else None)
    await engine.dispose()

try:
    asyncio.run(main())
except DjpError as error:
    sys.exit(f"{error.reason}: {error.message}")
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("way", ["made", "migrated"])
def test_processes_that_open_a_new_database_at_once_all_succeed(way: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "new.db"
    processes = [start(OPEN, url_of(path), way) for _ in range(4)]
    assert [(process.communicate()[0], process.returncode) for process in processes] == [("", 0)] * 4
    assert any(entry[0] == "windows" for entry in schema(path))


async def test_a_new_database_that_another_is_making_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrations: Path
) -> None:
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (x)")
        waits = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr(djp.database.time, "sleep", wait)
        engine = await open_engine(url_of(path), migrations)
        await engine.dispose()
    assert len(waits) == 1


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; below tmp_path only its owner can."""
    folder = Path(tempfile.mkdtemp(prefix="djp-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


# Root obeys no permissions, so the process gives root up once everything is imported.
OPEN_AS_NOBODY = OPEN.replace(
    "try:\n",
    """
import os
wanted, sys.argv[1] = sys.argv[1], sys.argv[3]
asyncio.run(main())
sys.argv[1] = wanted
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
""",
)


def test_a_folder_that_cannot_be_written_is_one_clear_error(open_folder: Path, tmp_path: Path) -> None:
    open_folder.chmod(0o555)
    path = open_folder / "new.db"
    process = start(OPEN_AS_NOBODY, url_of(path), "made", url_of(tmp_path / "warm.db"))
    output = process.communicate()[0]
    assert process.returncode == 1
    assert output.startswith("FAILED_PRECONDITION: ")
    assert f"{path} cannot be written" in output
    assert "mend the folder's permissions" in output
    assert output.count("\n") == 1


def test_a_database_that_may_only_be_read_is_one_clear_error(open_folder: Path, tmp_path: Path) -> None:
    path = open_folder / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    path.chmod(0o444)
    open_folder.chmod(0o555)
    process = start(OPEN_AS_NOBODY, url_of(path), "made", url_of(tmp_path / "warm.db"))
    output = process.communicate()[0]
    assert process.returncode == 1
    assert f"{path} cannot be written" in output


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_made_database(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n" + OPEN
    process = start(limited, url_of(path), "made")
    output = process.communicate()[0]
    assert process.returncode == 1, output
    assert output.startswith("DISK_FULL: ")
    assert str(path) in output
    process = start(OPEN, url_of(path), "made")
    assert (process.communicate()[0], process.returncode) == ("", 0)


@pytest.fixture
def spoil(tmp_path: Path) -> dict[str, Callable[[], Path]]:
    def text_file() -> Path:
        (tmp_path / "text.db").write_text("this is no database " * 1000)
        return tmp_path / "text.db"

    def folder() -> Path:
        (tmp_path / "folder.db").mkdir()
        return tmp_path / "folder.db"

    def below_a_file() -> Path:
        (tmp_path / "file").write_text("")
        return tmp_path / "file" / "below" / "a.db"

    def truncated() -> Path:
        path = tmp_path / "cut.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.executemany("INSERT INTO alembic_version VALUES (?)", [("x" * 3000,)] * 20)
        connection.close()
        with path.open("r+b") as file:
            file.truncate(9000)
        return path

    return {"text": text_file, "folder": folder, "below a file": below_a_file, "truncated": truncated}


@pytest.mark.parametrize("what", ["text", "folder", "below a file", "truncated"])
async def test_what_is_no_database_is_one_clear_error(
    what: str, spoil: dict[str, Callable[[], Path]], migrations: Path
) -> None:
    path = spoil[what]()
    with pytest.raises(FailedPrecondition) as refused:
        await open_engine(url_of(path), migrations, NOTES)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "cannot be read"),
        ("no url at all", "cannot be read"),
        ("oracle+nothing://u:hunter2@h/d", "cannot be read"),
        ("postgresql+psycopg2://u:hunter2@h/d", "driver"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, says: str, migrations: Path) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        await open_engine(url, migrations)
    assert says in refused.value.message
    assert "hunter2" not in refused.value.message


@pytest.fixture
async def engine(migrations: Path, tmp_path: Path) -> Any:
    engine = await open_engine(url_of(tmp_path / "notes.db"), migrations, NOTES)
    yield engine
    await engine.dispose()


async def test_a_statement_on_a_full_disk_says_so_and_changes_nothing(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(notes).values(note="kept"))
    with pytest.raises(ResourceExhausted, match=r"disk full: .*free some space") as refused:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("PRAGMA max_page_count = 1")
            await connection.execute(sa.insert(notes), [{"note": f"{n} " * 200} for n in range(500)])
    assert refused.value.reason == "DISK_FULL"
    async with reading(engine).connect() as connection:
        assert (await connection.execute(sa.select(notes.c.note))).scalars().all() == ["kept"]


async def test_a_database_held_by_another_process_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, migrations: Path, tmp_path: Path
) -> None:
    path = tmp_path / "notes.db"
    monkeypatch.setattr(djp.database, "BUSY_TIMEOUT_S", 0)
    engine = await open_engine(url_of(path), migrations, NOTES)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="held by another process"):
        async with engine.begin():
            pass
    async with reading(engine).connect() as connection:  # readers wait for no writer
        assert (await connection.execute(sa.select(notes))).all() == []
    other.execute("ROLLBACK")
    other.close()
    async with engine.begin() as connection:
        await connection.execute(sa.insert(notes).values(note="now"))
    await engine.dispose()


async def test_a_database_that_has_too_much_to_do_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, migrations: Path, tmp_path: Path
) -> None:
    engine = await open_engine(url_of(tmp_path / "notes.db"), migrations, NOTES)
    monkeypatch.setattr(engine.pool, "_timeout", 0.01)  # it waits for half a minute otherwise
    async with AsyncExitStack() as all_of_them:
        with pytest.raises(Unavailable, match="try again in a moment"):
            for _ in range(100):
                await all_of_them.enter_async_context(reading(engine).connect())
    async with reading(engine).connect() as connection:
        assert (await connection.execute(sa.select(notes))).all() == []
    await engine.dispose()


async def test_a_database_is_opened_and_closed_without_a_word(
    migrations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = await open_engine(url_of(tmp_path / "notes.db"), migrations, NOTES)
    await engine.dispose()
    assert not [record for record in caplog.records if record.name.startswith("djp")]


async def test_the_thread_of_a_cancelled_call_is_gone_when_the_database_is_closed(
    migrations: Path, tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    engine = await open_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", migrations, NOTES)
    begun = asyncio.Event()

    async def count_for_long() -> None:
        async with reading(engine).connect() as connection:
            begun.set()
            numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"
            await connection.execute(sa.text(f"{numbers} SELECT max(i) FROM n"))

    counting = asyncio.create_task(count_for_long())
    await begun.wait()
    while not counting.done():  # an impatient one: whoever cancels again does not wait for the connection to close
        counting.cancel()
        await asyncio.sleep(0)
    await engine.dispose()
    assert set(threading.enumerate()) <= before


async def test_a_fault_of_the_program_is_not_dressed_up(engine: AsyncEngine) -> None:
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        async with engine.begin() as connection:
            await connection.execute(sa.text("SELECT * FROM nowhere"))
    with pytest.raises(sa.exc.IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(sa.insert(notes), [{"note": "twice"}, {"note": "twice"}])


async def test_what_a_writer_has_read_is_still_true_when_it_writes(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(notes).values(note="0"))

    async def count_one_up() -> None:
        async with engine.begin() as connection:
            so_far = (await connection.execute(sa.select(notes.c.note))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(sa.update(notes).values(note=str(int(so_far) + 1)))

    await asyncio.gather(*(count_one_up() for _ in range(20)))
    async with reading(engine).connect() as connection:
        assert (await connection.execute(sa.select(notes.c.note))).scalar_one() == "20"


async def test_what_is_committed_survives_a_power_cut(engine: AsyncEngine) -> None:
    async with reading(engine).connect() as connection:
        pragma = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
