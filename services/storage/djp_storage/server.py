"""Opens the storage service: its objects, its catalogue, its servicer and its background work."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from djp.database import open_engine
from djp.mesh.server import Service
from djp.mesh.settings import djp_home
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.adapters.event_log import lifecycle_log
from djp_storage.adapters.postgres_catalogue import PostgresCatalogue
from djp_storage.adapters.retention_file import RetentionFile
from djp_storage.adapters.sql_catalogue import SqlCatalogue
from djp_storage.adapters.sql_events import SqlEvents
from djp_storage.adapters.sql_inventory import SqlInventory
from djp_storage.adapters.sql_lifecycle import SqlLifecycle
from djp_storage.adapters.tables import metadata
from djp_storage.adapters.transactions import Transactions
from djp_storage.artifacts import Artifacts
from djp_storage.leftovers import Leftovers
from djp_storage.lifecycle import Lifecycle
from djp_storage.moves import Moves
from djp_storage.parts import Parts
from djp_storage.retention import Retention
from djp_storage.servicer import StorageServicer
from djp_storage.upkeep import Sizes, Upkeep
from djp_storage.worker import Worker, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from djp_storage.ports import ObjectStore
    from djp_storage.settings import StorageSettings

_log = logging.getLogger(__name__)
_MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_parts(settings: StorageSettings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Parts]:
    """Everything behind the servicer; `now` is its clock, in UTC.

    Raises FailedPrecondition if the objects' place or the database cannot be used, ResourceExhausted if the disk is
    full, Unavailable if one of them does not answer.
    """
    store = await asyncio.to_thread(_open_store, settings)
    try:
        if cleaned := await store.clean():
            _log.info("removed %d unfinished uploads of a process that died", cleaned)
        named = settings.retention_file
        file = RetentionFile(named or djp_home() / "retention.yaml", settings.days, needed=named is not None)
        retention = Retention(settings.days, await asyncio.to_thread(file.read), settings.purge_share)

        def reload() -> None:
            if (tenants := file.poll()) is not None:
                retention.tenants = tenants

        engine = await open_engine(settings.database_url, _MIGRATIONS, metadata)
        try:
            transactions = Transactions(engine)
            kind = SqlCatalogue if engine.dialect.name == "sqlite" else PostgresCatalogue
            catalogue = kind(transactions, lease_s=settings.lease_s)
            events = SqlEvents(transactions)
            jobs = SqlLifecycle(transactions)
            inventory = SqlInventory(transactions)
            worker = Worker(catalogue, store, Leftovers(catalogue, inventory, store), now, lease_s=settings.lease_s)
            moves = Moves(catalogue, store, worker, compress=settings.compress)
            lifecycle = Lifecycle(jobs, events, worker, moves, retention)
            log = lifecycle_log(settings.event_log, events) if settings.event_log else None
            upkeep = Upkeep(
                worker,
                lifecycle,
                jobs,
                Sizes(catalogue, events, worker, settings.thresholds),
                log,
                reload,
                request_days=settings.request_retention_days,
            )
            artifacts = Artifacts(catalogue, store, worker, max_bytes=settings.max_artifact_mib * 2**20)
            await worker.beat()
            yield Parts(artifacts, catalogue, inventory, store, events, worker, moves, lifecycle, retention, upkeep)
            await worker.close()
            await upkeep.flush()
        finally:
            await engine.dispose()
    finally:
        await store.close()


@asynccontextmanager
async def open_service(settings: StorageSettings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Service]:
    """The service over the objects and the database of `settings`. Raises what `open_parts` raises."""
    async with open_parts(settings, now) as parts:
        servicer = StorageServicer(parts, idle_s=settings.idle_s)
        descriptor = storage_pb2.DESCRIPTOR.services_by_name["StorageService"]
        yield Service(
            "storage",
            [(descriptor, servicer, storage_pb2_grpc.add_StorageServiceServicer_to_server)],
            background=[parts.upkeep.run],
            on_drain=[parts.lifecycle.stop],
        )


def _open_store(settings: StorageSettings) -> ObjectStore:
    if settings.buckets:
        from djp_storage.adapters.s3_store import S3Store

        return S3Store(settings.account, settings.tier_buckets)
    return DirectoryStore(settings.data_dir)
