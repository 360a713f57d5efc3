"""Opens the storage service: its folder, its catalogue and its servicer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from djp.database import open_engine
from djp.mesh.server import Service
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.adapters.sql_catalogue import SqlCatalogue
from djp_storage.adapters.tables import metadata
from djp_storage.artifacts import Artifacts
from djp_storage.servicer import StorageServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_storage.settings import StorageSettings

_log = logging.getLogger(__name__)
_MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(settings: StorageSettings) -> AsyncIterator[Service]:
    """The service over `settings.data_dir` and its database.

    Raises FailedPrecondition if either cannot be used, ResourceExhausted if the disk is full.
    """
    store = await asyncio.to_thread(DirectoryStore, settings.data_dir)
    if cleaned := await store.clean():
        _log.info("removed %d unfinished uploads of a process that died", cleaned)
    engine = await open_engine(settings.database_url, _MIGRATIONS, metadata)
    try:
        artifacts = Artifacts(SqlCatalogue(engine), store, max_bytes=settings.max_artifact_mib * 2**20)
        servicer = StorageServicer(artifacts, idle_s=settings.idle_s)
        descriptor = storage_pb2.DESCRIPTOR.services_by_name["StorageService"]
        yield Service("storage", [(descriptor, servicer, storage_pb2_grpc.add_StorageServiceServicer_to_server)])
    finally:
        await engine.dispose()
