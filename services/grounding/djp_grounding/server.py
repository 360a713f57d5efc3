"""Opens the grounding service: its data folder and its servicer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.data_folder import make_data_folder
from djp.mesh.server import Service
from djp.v1 import grounding_pb2, grounding_pb2_grpc
from djp_grounding.corpora import Corpora
from djp_grounding.servicer import GroundingServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_grounding.settings import GroundingSettings

_BUILDERS = 2  # corpora built at once; a build takes one core


@asynccontextmanager
async def open_service(settings: GroundingSettings) -> AsyncIterator[Service]:
    """The service over `settings.data_dir`. Raises FailedPrecondition if that folder cannot be used."""
    make_data_folder(settings.data_dir, "DJP_GROUNDING_DATA_DIR")
    with ThreadPoolExecutor(max_workers=_BUILDERS, thread_name_prefix="grounding-build") as builders:
        corpora = Corpora(
            settings.data_dir,
            settings.limits,
            settings.object_store,
            refresh_s=settings.refresh_s,
            source=settings.corpus_source,
        )
        servicer = GroundingServicer(corpora, builders, idle_s=settings.idle_s)
        descriptor = grounding_pb2.DESCRIPTOR.services_by_name["GroundingService"]
        yield Service("grounding", [(descriptor, servicer, grounding_pb2_grpc.add_GroundingServiceServicer_to_server)])
