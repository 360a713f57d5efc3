"""What holds for every test, and how any of them serves a service."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    import grpc

    from djp.mesh.server import Service

settings.register_profile("djp", deadline=None)  # a busy machine is no failure
settings.load_profile("djp")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Commands and targets set up the process's logging, and a test runs several of them in one process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket, which may have 103 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="djp-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def serving(short_folder: Path) -> Any:
    """Serves what an `open_service(settings)` opens: `async with serving(open_service(...)) as channel`."""

    @asynccontextmanager
    async def serve(opening: AbstractAsyncContextManager[Service]) -> AsyncIterator[grpc.aio.Channel]:
        async with (
            opening as service,
            MeshServer(service, f"unix:{short_folder}/{uuid.uuid4().hex[:8]}.sock") as server,
            open_channel(server.address) as channel,
        ):
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield channel

    return serve
