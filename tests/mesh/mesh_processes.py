"""The whole mesh as processes on a Postgres and a MinIO of its own: each can be killed, and comes back.

Three gateways share the runs; every leaf has as many replicas as asked for, and the gateways are dealt out to them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from djp.mesh.channel import open_channel
from tests.grounding.minio_server import MinioServer
from tests.storage.storage_kills import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

SERVE = "import sys; from djp.standalone import serve_one; sys.exit(serve_one(*sys.argv[1:]))"
LEAVES = ("debate", "judge", "redaction", "grounding", "governance", "storage")
WITH_DATABASE = ("gateway", "governance", "storage")
TIERS = ("hot", "warm", "cold", "trash")
PATIENCE_S = 120.0
_LOOK_S = 0.1


class Served:
    """`djp serve TARGET` in a process of its own."""

    def __init__(self, name: str, target: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.target = target
        self.address = f"unix:{folder}/{name}.sock"
        self.back_at = 0.0
        """Not started again before that time, by time.monotonic()."""
        self.log = folder / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether there is such a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Does not wait until it answers: clients do."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, self.target, self.address],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._process.wait(timeout=60)


class Mesh:
    """Its processes by name: g1, g2, …, debate1, …; `minio` and `postgres` beside them."""

    def __init__(self, folder: Path, *, gateways: int = 3, replicas: int = 1, **settings: str) -> None:
        for name in ("pg", "minio", "home"):
            (folder / name).mkdir()
        self.folder = folder
        self.postgres = Postgres(folder / "pg")
        self.minio = MinioServer(folder / "minio")
        self.minio.start()
        self.urls = {name: self._new_database(name) for name in WITH_DATABASE}
        account = self.minio.account
        s3 = {"ENDPOINT": account.endpoint, "ACCESS_KEY": account.access_key, "SECRET_KEY": account.secret_key}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
        environment = {
            **inherited,
            "DJP_HOME": str(folder / "home"),
            "DJP_DRAIN_DELAY_S": "0",
            **{f"DJP_{name.upper()}_DATABASE_URL": url for name, url in self.urls.items()},
            **{f"DJP_{name}_S3_{what}": value for name in ("GROUNDING", "STORAGE") for what, value in s3.items()},
            "DJP_STORAGE_BUCKETS": ",".join(f"{tier}=mesh-{tier}" for tier in TIERS),
            "DJP_GROUNDING_STORE": "s3://mesh-corpora",
            **settings,
        }
        self.served: dict[str, Served] = {}
        for target in LEAVES:
            for number in range(1, replicas + 1):
                own = {"DJP_GROUNDING_DATA_DIR": str(folder / f"grounding{number}")}
                self._add(f"{target}{number}", target, {**environment, **own})
        for number in range(1, gateways + 1):
            own = {
                f"DJP_{target.upper()}_ADDRESS": self.served[f"{target}{(number - 1) % replicas + 1}"].address
                for target in LEAVES
            }
            self._add(f"g{number}", "gateway", {**environment, **own, "DJP_EXECUTOR_ID": f"g{number}"})

    def _add(self, name: str, target: str, environment: Mapping[str, str]) -> None:
        self.served[name] = Served(name, target, self.folder, environment)

    def _new_database(self, name: str) -> str:
        engine = sa.create_engine(self.postgres.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE mesh_{name}"))
        engine.dispose()
        return sa.make_url(self.postgres.url).set(database=f"mesh_{name}").render_as_string(hide_password=False)

    @property
    def gateways(self) -> Sequence[Served]:
        """All of them, alive or not."""
        return [one for one in self.served.values() if one.target == "gateway"]

    def rows(self, database: str, query: str, **values: Any) -> list[Any]:
        """What a query finds in the database of a service."""
        engine = sa.create_engine(self.urls[database])
        try:
            with engine.connect() as connection:
                return list(connection.execute(sa.text(query), values).all())
        finally:
            engine.dispose()

    async def supervise(self) -> None:
        """Start what has ended, as a cluster does: killed, or because a database was away at its start."""
        while True:
            for one in self.served.values():
                if not one.runs and time.monotonic() >= one.back_at:
                    one.start()
            await asyncio.sleep(_LOOK_S)

    async def up(self) -> None:
        """Wait until everything answers."""
        for name in self.served:
            await self.answers(name)

    async def answers(self, name: str) -> None:
        """Wait until the process of that name answers, or the next one of that name."""
        async with open_channel(self.served[name].address) as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)

    async def kill(self, name: str, away_s: float) -> None:
        """Kill what has that name; it comes back after so long, MinIO and Postgres before this returns."""
        match name:
            case "minio":
                await asyncio.to_thread(self.minio.stop)
                await asyncio.sleep(away_s)
                await asyncio.to_thread(self.minio.start)
            case "postgres":
                await asyncio.to_thread(self.postgres.kill)
                await asyncio.sleep(away_s)
                await asyncio.to_thread(self.postgres.start)
            case _:
                one = self.served[name]
                one.back_at = time.monotonic() + away_s
                await asyncio.to_thread(one.kill)

    def close(self) -> None:
        """End every process."""
        for one in self.served.values():
            one.kill()
        self.minio.stop()
        self.postgres.stop()


@asynccontextmanager
async def running_mesh(**options: Any) -> AsyncIterator[Mesh]:
    """A new mesh that is up, and whose processes come back when they end."""
    with tempfile.TemporaryDirectory(prefix="djp-") as folder:
        mesh = await asyncio.to_thread(lambda: Mesh(Path(folder), **options))
        supervising = asyncio.create_task(mesh.supervise())
        try:
            await mesh.up()
            yield mesh
        finally:
            supervising.cancel()
            with suppress(asyncio.CancelledError):
                await supervising
            await asyncio.to_thread(mesh.close)
