"""What storage costs: rates beside the bare minio client, a million rows in the catalogue, 10,000 artifacts at once.

rates: puts, gets and promotions a second of 4 KB and 10 MB, on one MinIO, with the catalogue on Postgres, by the
    service's own code in this process. The peer is the minio client with the same calls in as many threads: put;
    get and hash; copy inside the server, read back and hash, remove. Beside the rates, which suffer from whatever else
    the machine does, stands the CPU time that this process, MinIO and Postgres together took for a call.
rows: a catalogue of 1,000,000 artifacts on Postgres and on SQLite. How long until the first batch of what is due, and
    any page of any list takes; how memory grows meanwhile; and what a lifecycle run costs that moves 50, 100, 200 and
    400, in it and in a catalogue of 1,000.
cost: what a lifecycle run costs that moves 50, 100, 200 and 400 in catalogues of 1,000, 30,000 and 1,000,000 on
    SQLite, drawn in storage_lifecycle.svg: it goes with what moves, not with what is stored.
many: 10,000 artifacts of 4 KB from 4 clients through 2 services on one Postgres and one MinIO: put, moved and read. The
    peer is the minio client as above, a tenth as often, in 4 threads on the same MinIO.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import io
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa

from djp.database import to_us
from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.s3 import connect, make_bucket
from djp.v1 import common_pb2, storage_pb2, storage_pb2_grpc
from djp_storage.adapters.sql_lifecycle import SqlLifecycle
from djp_storage.lifecycle import Order
from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, RequestKey, Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings
from tests.governance.ledger_postgres import new_postgres
from tests.grounding.minio_server import MinioServer
from tests.storage.storage_kills import cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from djp_storage.parts import Parts

AT_ONCE = 8
MOVED = (50, 100, 200, 400)
TENANT = "acme"
SIZES = {"4 KB": (4096, 400), "10 MB": (10 * 10**6, 24)}
FILL = """
    INSERT INTO artifacts (tenant, workflow, artifact, tier, size, sha256, content_type, run_id, tags, created_us,
        modified_us, tier_since_us, object_id, encoding, came_from, hold)
    SELECT 'acme', 'w' || (n % 50), 'a' || n, CASE n % 4 WHEN 0 THEN 'hot' WHEN 1 THEN 'warm' ELSE 'cold' END,
        CAST(n AS BIGINT) * 7919 % 1000003, '{hash}', 'application/json', 'r' || (n / 10), '{{}}',
        {now} - CAST(n AS BIGINT) * 1000, {now} - CAST(n AS BIGINT) * 1000, {now} - CAST(n AS BIGINT) * 1000,
        'none', '', '', 0
    FROM {numbers}"""
NUMBERS = {
    "postgresql": "generate_series(1, {count}) AS t(n)",
    "sqlite": "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {count}) SELECT n FROM t)",
}


class Bare:
    """The peer."""

    def __init__(self, minio: MinioServer) -> None:
        self._client, _ = connect(minio.account, pool=AT_ONCE)
        for bucket in ("bare-hot", "bare-warm"):
            make_bucket(self._client, bucket)

    def put(self, name: str, content: bytes) -> None:
        self._client.put_object("bare-hot", name, io.BytesIO(content), len(content))

    def get(self, name: str, bucket: str = "bare-hot") -> str:
        response = self._client.get_object(bucket, name)
        try:
            return hashlib.sha256(response.read()).hexdigest()
        finally:
            response.close()
            response.release_conn()

    def promote(self, name: str) -> None:
        from minio.commonconfig import CopySource

        self._client.copy_object("bare-warm", name, CopySource("bare-hot", name))
        self.get(name, "bare-warm")
        self._client.remove_object("bare-hot", name)


async def at_once(count: int, call: Callable[[int], Awaitable[Any]], most: int = AT_ONCE) -> float:
    """Calls a second, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(most)))
    return count / (time.perf_counter() - began)


class Cpu:
    """The CPU time of this process, of its MinIO, and of its Postgres."""

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            backend = psutil.Process(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
            self._postmaster = backend.parent()
        engine.dispose()

    def seconds(self) -> float:
        """Since they began."""
        here, there = psutil.Process(), self._postmaster
        alive = [here, *here.children(), there, *there.children()]
        ended = there.cpu_times()
        return sum(sum(one.cpu_times()[:2]) for one in alive) + ended.children_user + ended.children_system


async def rates(scale: float) -> dict[str, Any]:
    """Ours and the peer's, in turns; medians of five. A ratio is that of each turn, so that both had the same load."""
    found: dict[str, Any] = {}
    with new_postgres() as url, tempfile.TemporaryDirectory(prefix="djp-") as folder:
        minio = MinioServer(Path(folder))
        minio.start()
        try:
            async with open_parts(_settings(url, minio)) as parts:
                bare, cpu = Bare(minio), Cpu(url)
                for label, (size, count) in SIZES.items():
                    found[label] = await _rates(parts, bare, cpu, os.urandom(size), max(AT_ONCE, int(count * scale)))
        finally:
            minio.stop()
    return found


async def _rates(parts: Parts, bare: Bare, cpu: Cpu, content: bytes, count: int) -> dict[str, Any]:
    threads, told = ThreadPoolExecutor(AT_ONCE), {}
    loop, digest = asyncio.get_running_loop(), hashlib.sha256(content).hexdigest()
    measured: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {
        deed: ([], []) for deed in ("put", "get", "promote")
    }
    for turn in range(5):
        mark = uuid.uuid4().hex

        def key(number: int, mark: str = mark) -> ArtifactKey:
            return ArtifactKey(TENANT, "rates", f"{mark}-{number}")

        async def put(number: int) -> None:
            header = ArtifactHeader(key(number), sha256=digest)
            await parts.artifacts.put(header, str(uuid.uuid4()), _chunks(content))

        async def get(number: int) -> None:
            async for _ in parts.artifacts.read(await parts.artifacts.stat(key(number))):
                pass

        async def promote(number: int) -> None:
            asked = RequestKey(TENANT, str(uuid.uuid4()), "0" * 64)
            await parts.moves.restore(key(number), None, Tier.WARM, parts.artifacts.by(""), asked)

        def in_thread(function: Any, *more: Any, mark: str = mark) -> Callable[[int], Awaitable[Any]]:
            return lambda number: loop.run_in_executor(threads, function, f"{mark}-{number}", *more)

        pairs = [(put, in_thread(bare.put, content)), (get, in_thread(bare.get)), (promote, in_thread(bare.promote))]
        for (ours, theirs), (mine, peers) in zip(pairs, measured.values(), strict=True):
            for call, into in [(ours, mine), (theirs, peers)][:: 1 if turn % 2 else -1]:
                before = cpu.seconds()
                rate = await at_once(count, call)
                into.append((rate, (cpu.seconds() - before) / count * 1e6))
    for deed, (mine, peers) in measured.items():
        (ours_, ours_cpu), (peer, peer_cpu) = (
            (statistics.median(rate for rate, _ in one), statistics.median(used for _, used in one))
            for one in (mine, peers)
        )
        told[deed] = {
            "ours_per_s": round(ours_, 1),
            "bare_per_s": round(peer, 1),
            "ratio": round(statistics.median(us / them for (us, _), (them, _) in zip(mine, peers, strict=True)), 2),
            "ours_cpu_us": round(ours_cpu),
            "bare_cpu_us": round(peer_cpu),
            "ratio_of_cpu": round(
                statistics.median(them / us for (_, us), (_, them) in zip(mine, peers, strict=True)), 2
            ),
        }
    return told


async def rows(count: int) -> dict[str, Any]:
    """On both databases, each with a catalogue of `count` rows and one of 1,000."""
    found: dict[str, Any] = {}
    for kind in ("postgresql", "sqlite"):
        with new_postgres() as url, tempfile.TemporaryDirectory(prefix="djp-") as folder:
            if kind == "sqlite":
                url = f"sqlite+aiosqlite:///{folder}/storage.db"
            async with open_parts(StorageSettings(database_url=url, data_dir=Path(folder) / "a")) as parts:
                await asyncio.to_thread(_fill, url, kind, 1000)
                await _run_cost(parts, 50)  # what a first run does once
                few = {moved: await _run_cost(parts, moved) for moved in MOVED}
                await asyncio.to_thread(_fill, url, kind, count)
                gc.freeze()  # as a service does when it has started
                found[kind] = {
                    "rows": count,
                    **await _reads(parts),
                    "seconds_of_a_run_by_artifacts_moved": {
                        "in 1000": few,
                        f"in {count}": {moved: await _run_cost(parts, moved) for moved in MOVED},
                    },
                }
    return found


async def _reads(parts: Parts) -> dict[str, Any]:
    store, before = parts.lifecycle._store, _memory()
    assert isinstance(store, SqlLifecycle)
    now, scans, pages = datetime.now(UTC), [], {}
    for ahead in (0, 4000):  # nothing is due, and all of it
        for branch in parts.retention.branches(now + timedelta(days=ahead), ""):
            began = time.perf_counter()
            await store.due(branch, None, 64)
            scans.append(time.perf_counter() - began)
    wanted = {
        "all": Filter(),
        "workflow": Filter(workflow="w7"),
        "tier": Filter(tier=Tier.WARM),
        "empty tier": Filter(tier=Tier.TRASH),
        "run": Filter(run_id="r77"),
        "time": Filter(since=now - timedelta(minutes=3), until=now - timedelta(minutes=1)),
        "workflow and tier": Filter(workflow="w7", tier=Tier.COLD),
    }
    for label, filter_ in wanted.items():
        for largest in (False, True):

            async def page(token: str, filter_: Filter = filter_, largest: bool = largest) -> tuple[float, str]:
                began = time.perf_counter()
                found = await parts.artifacts.list(TENANT, filter_, size=100, token=token, largest_first=largest)
                return (time.perf_counter() - began) * 1000, found.next_page_token

            taken, token = list[tuple[float, str]](), ""
            for _ in range(60):
                took, after = await page(token)
                taken.append((took, token))
                if not (token := after):
                    break
            worst, slowest = max(taken)
            pages[f"{label}{', largest' if largest else ''}"] = {
                "median_ms": round(statistics.median(took for took, _ in taken), 1),
                "worst_ms": round(worst, 1),
                # What the database has to do for that page is slow again; what other programs did meanwhile is not.
                "worst_again_ms": round(statistics.median([(await page(slowest))[0] for _ in range(5)]), 1),
            }
    return {
        "first_batch_of_due_s": round(max(scans), 3),
        "pages": pages,
        "memory_grew_mib": round(_memory() - before, 1),
    }


async def _run_cost(parts: Parts, moved: int) -> float:
    """Of a lifecycle run that moves so many new artifacts of a tenant of their own, in seconds."""
    tenant = f"t{uuid.uuid4().hex[:12]}"

    async def put(number: int) -> None:
        header = ArtifactHeader(ArtifactKey(tenant, "w", str(number)))
        await parts.artifacts.put(header, str(uuid.uuid4()), _chunks(b"text"))

    await at_once(moved, put)
    order = Order("", live=True, confirm=False)
    soon = datetime.now(UTC)
    assert isinstance(parts.lifecycle._store, SqlLifecycle)
    await parts.lifecycle._store._transactions.change(
        lambda connection: connection.execute(
            sa.text("UPDATE artifacts SET tier_since_us = :us WHERE tenant = :tenant"),
            {"us": to_us(soon - timedelta(days=8)), "tenant": tenant},
        )
    )
    began = time.perf_counter()
    asked = RequestKey(TENANT, str(uuid.uuid4()), "0" * 64)
    steps = [step async for step in parts.lifecycle.run(order, parts.artifacts.by(""), asked)]
    assert steps[-1].so_far.to_warm == moved, steps[-1]
    return round(time.perf_counter() - began, 2)


async def cost(count: int) -> dict[str, Any]:
    """Medians of three, in seconds, by what is stored and what moves."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="djp-") as folder:
        url = f"sqlite+aiosqlite:///{folder}/storage.db"
        async with open_parts(StorageSettings(database_url=url, data_dir=Path(folder) / "a")) as parts:
            for stored in sorted({1000, min(30_000, count), count}):
                await asyncio.to_thread(_fill, url, "sqlite", stored)
                await _run_cost(parts, 50)  # what a first run does once
                runs = {moved: [await _run_cost(parts, moved) for _ in range(3)] for moved in MOVED}
                found[f"{stored:,} stored"] = {moved: statistics.median(taken) for moved, taken in runs.items()}
    _draw(found, Path(__file__).with_name("storage_lifecycle.svg"))
    return found


def _draw(found: dict[str, dict[int, float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "djp"  # the same figures give the same file
    from matplotlib import pyplot

    figure, (moves, stores) = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    stored = [int(label.partition(" ")[0].replace(",", "")) for label in found]
    for label, runs in found.items():
        moves.plot(list(runs), list(runs.values()), marker="o", label=label)
    for moved in MOVED:
        stores.plot(stored, [runs[moved] for runs in found.values()], marker="o", label=f"{moved} moved")
    moves.set(xlabel="artifacts moved", ylabel="seconds of a lifecycle run", xlim=(0, None), ylim=(0, None))
    stores.set(xlabel="artifacts stored", xscale="log")
    for axes in (moves, stores):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})


async def many(count: int) -> dict[str, Any]:
    """Through two services."""
    async with cluster(0) as running, AsyncExitStack() as stack:
        stubs = [
            storage_pb2_grpc.StorageServiceStub(await stack.enter_async_context(open_channel(service.address)))
            for service in running.services
        ]
        content, told = os.urandom(4096), {}

        def key(number: int) -> storage_pb2.ArtifactKey:
            return storage_pb2.ArtifactKey(workflow="many", artifact=str(number))

        async def put(stub: Any, number: int) -> None:
            header = storage_pb2.ArtifactHeader(request_id=str(uuid.uuid4()), key=key(number))
            parts = [storage_pb2.PutArtifactRequest(header=header), storage_pb2.PutArtifactRequest(chunk=content)]
            await stub.PutArtifact(iter(parts), wait_for_ready=True)

        async def move(stub: Any, number: int) -> None:
            request = storage_pb2.RestoreArtifactRequest(
                request_id=str(uuid.uuid4()), key=key(number), to_tier=common_pb2.TIER_WARM
            )
            await stub.RestoreArtifact(request)

        async def read(stub: Any, number: int) -> None:
            got = [part.chunk async for part in stub.GetArtifact(storage_pb2.GetArtifactRequest(key=key(number)))]
            assert b"".join(got) == content

        for deed in (put, move, read):

            async def client(which: int, deed: Any = deed) -> None:
                with identity_scope(Identity(TENANT)):
                    for number in range(which, count, 4):
                        await deed(stubs[which % 2], number)

            began = time.perf_counter()
            await asyncio.gather(*map(client, range(4)))
            told[f"{deed.__name__}_per_s"] = round(count / (time.perf_counter() - began), 1)
        bare, threads, loop = Bare(running.minio), ThreadPoolExecutor(4), asyncio.get_running_loop()
        calls = {
            "put": partial(bare.put, content=content),
            "move": bare.promote,
            "read": partial(bare.get, bucket="bare-warm"),
        }
        for name, call in calls.items():
            rate = await at_once(
                max(4, count // 10), lambda number, call=call: loop.run_in_executor(threads, call, str(number)), 4
            )
            told[f"bare_{name}_per_s"] = round(rate, 1)
        return {"artifacts": count, **told}


def _settings(url: str, minio: MinioServer) -> StorageSettings:
    account = minio.account
    return StorageSettings(
        database_url=url,
        buckets=",".join(f"{tier}=bench-{tier}" for tier in Tier),
        s3_endpoint=account.endpoint,
        s3_access_key=account.access_key,
        s3_secret_key=account.secret_key,
    )


def _fill(url: str, kind: str, count: int) -> None:
    engine = sa.create_engine(url.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM artifacts WHERE object_id = 'none'"))
        numbers = NUMBERS[kind].format(count=count)
        connection.execute(sa.text(FILL.format(hash="0" * 64, now=to_us(datetime.now(UTC)), numbers=numbers)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 1 << 20):
        yield content[at : at + (1 << 20)]


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("parts", nargs="*", help="rates, rows, cost, many; all if not said")
    options = parser.parse_args()
    part = 0.05 if options.quick else 1.0
    wanted = options.parts or ["rates", "rows", "cost", "many"]
    measures = {
        "rates": lambda: rates(part),
        "rows": lambda: rows(int(1_000_000 * part)),
        "cost": lambda: cost(int(1_000_000 * part)),
        "many": lambda: many(int(10_000 * part)),
    }
    figures = {}
    for name in wanted:
        figures[name] = asyncio.run(measures[name]())
        for line in _lines(name, figures[name]):
            print(line, flush=True)
    print(json.dumps({"benchmark": "storage", "figures": figures}))
    return 0


def _lines(name: str, figures: Any) -> Iterator[str]:
    """A line for each figure."""
    if isinstance(figures, dict):
        for one, inner in figures.items():
            yield from _lines(f"{name}, {one}", inner)
    else:
        yield f"{name:70} {figures}"


if __name__ == "__main__":
    sys.exit(main())
