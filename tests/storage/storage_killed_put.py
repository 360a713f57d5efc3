"""Puts artifacts, the first killed at the first step of a put, the second at the second, and so on until one survives.

Run by test_storage_crash.py: `storage_killed_put.py HOME`. Says `acknowledged N` when the put of artifact N returned,
and `survived N` at the end. A step is every call to the system that changes or flushes a file and every statement and
commit of the database: the put dies right before it, which is right after the one before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosqlite  # noqa: F401  before the fork, to save its time in every child

from djp.database import open_engine
from djp.plain_connection import PlainConnection
from djp_storage import server
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.adapters.sql_catalogue import SqlCatalogue
from djp_storage.adapters.sql_inventory import SqlInventory
from djp_storage.adapters.tables import metadata
from djp_storage.adapters.transactions import Transactions
from djp_storage.artifacts import Artifacts
from djp_storage.leftovers import Leftovers
from djp_storage.model import ArtifactHeader, ArtifactKey
from djp_storage.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STEPS = ("open", "mkdir", "fsync", "rename", "unlink")


def request_id(n: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(n)))


def header(n: int) -> ArtifactHeader:
    return ArtifactHeader(ArtifactKey("acme", f"w{n}", "a.json"))


def content(n: int) -> bytes:
    return f"content {n} ".encode() * 10_000


class Reaper:
    """Kills this process at the n-th step, the way a power cut would: nothing is tidied up."""

    def __init__(self, n: int) -> None:
        self._left = n

    def step(self, *_: Any) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return function(*args, **kwargs)

        return counted


async def put_and_die(home: Path, n: int) -> None:
    store = DirectoryStore(home / "artifacts")
    engine = await open_engine(
        f"sqlite+aiosqlite:///{home}/storage.db", Path(server.__file__).parent / "migrations", metadata
    )
    transactions = Transactions(engine)
    catalogue = SqlCatalogue(transactions, lease_s=1)
    worker = Worker(catalogue, store, Leftovers(catalogue, SqlInventory(transactions), store), lease_s=1)
    artifacts = Artifacts(catalogue, store, worker, max_bytes=2**30)
    await worker.beat()

    async def chunks() -> AsyncIterator[bytes]:
        yield content(n)[:50_000]
        yield content(n)[50_000:]

    reaper = Reaper(n)
    for name in STEPS:
        setattr(os, name, reaper.around(getattr(os, name)))
    monkey = reaper.around(PlainConnection.execute)
    PlainConnection.execute = monkey  # type: ignore[method-assign]
    await artifacts.put(header(n), request_id(n), chunks())
    await worker.close()
    os.write(1, b"acknowledged %d\n" % n)
    await engine.dispose()


def main(home: Path) -> None:
    n = 0
    while True:
        n += 1
        if not (child := os.fork()):
            asyncio.run(put_and_die(home, n))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            os.write(1, b"survived %d\n" % n)
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
