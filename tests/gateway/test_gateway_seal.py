"""What lies on the disk tells nothing, and the key that opens it is made and minded with care."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from djp.database import open_engine
from djp.mesh.errors import FailedPrecondition, ResourceExhausted
from djp.v1 import debate_pb2, run_pb2
from djp_gateway import server
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.adapters.tables import metadata
from djp_gateway.adapters.transactions import Transactions
from djp_gateway.seal import Seal, load_key

if TYPE_CHECKING:
    from pathlib import Path


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_nothing_of_a_run_can_be_read_from_the_disk(mesh: Any, leaves: Any, folder: Path) -> None:
    gateway = await mesh.gateway()
    words = ("PLUM-TASK", "PLUM-DRAFT", "PLUM-REASON", "PLUM-ROLE", "PLUM-TRACE", "PLUM-TAG")
    leaves.drafts = ["PLUM-DRAFT one", "PLUM-DRAFT two", "PLUM-DRAFT three"]
    leaves.juror_reason = "PLUM-REASON"
    voices = [debate_pb2.Debater(debater_id="d1", model="offline/lead", role="PLUM-ROLE")]
    run = await gateway.do(
        task="PLUM-TASK?", trace_name="PLUM-TRACE", tags={"t": "PLUM-TAG"}, debaters=voices, policy="openai_only"
    )
    assert run.state == run_pb2.RUN_STATE_ADVISORY
    files = _files(folder)
    assert {"gateway.db", "gateway.db-wal", "seal.key"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for word in words:
            assert word.encode() not in content, path.name
    assert stat.S_IMODE((folder / "seal.key").stat().st_mode) == 0o600


async def test_a_short_task_cannot_be_guessed_from_its_hash(gateway: Any, folder: Path) -> None:
    """Who has the file and a guess can compare a plain hash; a keyed one tells only that two requests are the same."""
    fields = {"task": "yes or no?"}
    await gateway.do(**fields)
    plain = sha256(run_pb2.RunRequest(**fields).SerializeToString(deterministic=True)).hexdigest()
    assert plain.encode() not in b"".join(path.read_bytes() for path in _files(folder))


async def test_rows_cannot_change_places(folder: Path) -> None:
    seal = Seal(os.urandom(32))
    sealed = seal.close(b"secret", "run/1")
    assert seal.open(sealed, "run/1") == b"secret"
    assert seal.close(b"secret", "run/1") != sealed
    for blob, context in ((sealed, "run/2"), (sealed[:-1], "run/1"), (b"", "run/1"), (sealed + b"x", "run/1")):
        with pytest.raises(FailedPrecondition, match="seal key"):
            seal.open(blob, context)


async def test_a_gateway_with_another_key_does_not_start(mesh: Any, folder: Path) -> None:
    first = await mesh.gateway()
    await first.do()
    await first.close()
    (folder / "seal.key").unlink()
    with pytest.raises(FailedPrecondition, match="restore the key file"):
        await mesh.gateway()


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
async def test_a_key_of_the_wrong_length_is_refused(mesh: Any, folder: Path, content: bytes) -> None:
    (folder / "seal.key").write_bytes(content)
    with pytest.raises(FailedPrecondition, match=r"seal\.key has \d+ bytes"):
        await mesh.gateway()
    assert (folder / "seal.key").read_bytes() == content


async def test_a_key_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "seal.key").mkdir()
    with pytest.raises(FailedPrecondition, match=r"seal\.key cannot be used"):
        load_key(folder / "seal.key")


def test_processes_that_start_at_once_agree_on_one_key(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from djp_gateway.seal import load_key; sys.stdin.readline();"
        f"print(load_key(Path({str(folder / 'new' / 'seal.key')!r})).hex())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    keys = {process.communicate()[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert keys == {(folder / "new" / "seal.key").read_bytes().hex().encode() + b"\n"}
    assert [path.name for path in (folder / "new").iterdir()] == ["seal.key"]


async def test_a_full_disk_is_named_and_loses_nothing(mesh: Any, folder: Path) -> None:
    gateway = await mesh.gateway()
    done = await gateway.do()
    await gateway.close()
    settings = mesh.settings()
    engine = await open_engine(settings.gateway_database_url, server._MIGRATIONS)
    tables = Transactions(engine)

    async def fill(connection: Any) -> None:
        await connection.execute(text("PRAGMA max_page_count = 1"))

    try:
        await tables.change(fill)
        store = SqlRunStore(tables, Seal(load_key(folder / "seal.key")))
        run = run_pb2.Run(run_id="0" * 36, tenant="default", spec=run_pb2.RunSpec(task="x" * 100_000))
        with pytest.raises(ResourceExhausted, match="disk full") as caught:
            await SqlRunQueue(tables, store).add(run, request_id="1" * 36, request_sha256="2" * 64, executor="test")
        assert caught.value.reason == "DISK_FULL"
        assert (await store.get("default", done.run_id)) == done
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM runs"))).scalar() == 1
    finally:
        await engine.dispose()


async def test_both_ways_to_the_schema_make_the_same_tables(folder: Path) -> None:
    async def tables(name: str, known: Any) -> set[str]:
        engine = await open_engine(f"sqlite+aiosqlite:///{folder / name}", server._MIGRATIONS, known)
        try:
            async with engine.connect() as connection:
                rows = await connection.execute(
                    text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'")
                )
                return {" ".join(row[0].split()) for row in rows}
        finally:
            await engine.dispose()

    assert await tables("a.db", metadata) == await tables("b.db", None)


async def test_writers_at_once_do_not_overwrite_each_other(mesh: Any, leaves: Any, folder: Path) -> None:
    gateway = await mesh.gateway()
    gate = leaves.hold("Debate")
    run = await gateway.start()
    await gate.entered.wait()
    store = gateway.service.servicers[0][1]._store
    mine = await store.get("default", run.run_id)
    copies = [run_pb2.Run.FromString(mine.SerializeToString()) for _ in range(5)]
    outcomes = await asyncio.gather(
        *(store.save(copy, [run_pb2.RunEvent(warning=str(n))]) for n, copy in enumerate(copies)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(FailedPrecondition) == 4
    after = await store.events_after(run.run_id, mine.last_sequence)
    assert len(after) == 1
