"""Replicas of the service as processes of their own over one MinIO, under queries, while versions and outages come."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.channel import open_channel
from djp.v1 import grounding_pb2, grounding_pb2_grpc
from tests.grounding.minio_server import KEY, SECRET, MinioServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

DJP = Path(sys.executable).with_name("djp")
REPLICAS = 3
PAUSE_S = 0.005  # between two queries of one asker, so that builders have something of the machine, too
PATIENCE_S = 120.0


@dataclass
class Load:
    """What the askers saw: for each replica how many queries were answered, and the version of the last answer."""

    answered: list[int] = field(default_factory=lambda: [0] * REPLICAS)
    version: list[str] = field(default_factory=lambda: [""] * REPLICAS)
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0


@asynccontextmanager
async def replicas(folder: Path, minio: MinioServer) -> AsyncIterator[list[Any]]:
    """Stubs of the replicas, each in a process with a data folder of its own."""
    environment = {
        **os.environ,
        "DJP_GROUNDING_STORE": "s3://docs",
        "DJP_GROUNDING_S3_ENDPOINT": f"http://{minio.endpoint}",
        "DJP_GROUNDING_S3_ACCESS_KEY": KEY,
        "DJP_GROUNDING_S3_SECRET_KEY": SECRET,
        "DJP_GROUNDING_REFRESH_S": "0.2",
    }
    processes = []
    async with AsyncExitStack() as stack:
        stubs = []
        try:
            for number in range(REPLICAS):
                address = f"unix:{folder}/{number}.sock"
                own = {**environment, "DJP_GROUNDING_DATA_DIR": str(folder / f"data{number}")}
                command = [str(DJP), "serve", "grounding", "--listen", address]
                with (folder / f"{number}.log").open("wb") as log:
                    processes.append(subprocess.Popen(command, env=own, stdout=log, stderr=log))  # noqa: ASYNC220
                channel = await stack.enter_async_context(open_channel(address))
                await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
                stubs.append(grounding_pb2_grpc.GroundingServiceStub(channel))
            yield stubs
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                await asyncio.to_thread(process.wait, 60)


async def publish(stub: Any, files: Mapping[str, str]) -> str:
    """Makes a version of the corpus `docs`; its name."""

    def parts() -> Iterator[grounding_pb2.CreateCorpusRequest]:
        header = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="docs")
        yield grounding_pb2.CreateCorpusRequest(header=header)
        for path, text in files.items():
            chunk = grounding_pb2.CorpusFileChunk(path=path, content=text.encode())
            yield grounding_pb2.CreateCorpusRequest(file=chunk)

    answer = await stub.CreateCorpus(parts(), timeout=PATIENCE_S)
    return str(answer.version.version)


async def ask(stub: Any, number: int, load: Load) -> None:
    """Asks one replica until it is cancelled. Every query must find the one document that all versions have."""
    request = grounding_pb2.SearchRequest(corpus="docs", query="bananas", top_k=1)
    while True:
        began = time.perf_counter()
        try:
            found = await stub.Search(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            load.failed.append(f"replica {number}: {error.code().name} {error.details()}")
        else:
            if [one.title for one in found.passages] != ["Beta"]:
                load.failed.append(f"replica {number}: found {[one.title for one in found.passages]}")
            load.answered[number] += 1
            load.version[number] = found.version
        load.longest_s = max(load.longest_s, time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)


async def until(holds: Callable[[], bool], load: Load) -> None:
    """Waits for a condition; also a failed query ends the waiting, for its reader to tell."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds() and not load.failed:
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.02)


async def outages(folder: Path, turns: int, documents: int) -> Load:
    """In each turn a replica publishes a version, all come to serve it, and MinIO is stopped, and started again.

    While it is away, a build must be refused, and every replica must answer fifty queries more.
    """
    minio = MinioServer(folder)
    await asyncio.to_thread(minio.start)
    load = Load()
    common = {"b.md": "# Beta\n\nbananas", **{f"{n}.md": f"# Note {n}\n\nnote {n}" for n in range(documents)}}
    try:
        async with replicas(folder, minio) as stubs:
            await publish(stubs[0], common)
            askers = [asyncio.create_task(ask(stub, number, load)) for number, stub in enumerate(stubs)]
            try:
                for turn in range(turns):
                    texts = {**common, "a.md": f"# Alpha\n\nedition{turn}"}
                    version = await publish(stubs[turn % REPLICAS], texts)
                    await until(lambda version=version: set(load.version) == {version}, load)  # type: ignore[misc]
                    await asyncio.to_thread(minio.stop)
                    before = list(load.answered)
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await publish(stubs[turn % REPLICAS], {**common, "c.md": f"# Gamma\n\ncherries {turn}"})
                    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                    await until(lambda before=before: min(map(int.__sub__, load.answered, before)) >= 50, load)  # type: ignore[misc]
                    assert set(load.version) == {version}, "a build that was not published is served"
                    await asyncio.to_thread(minio.start)
            finally:
                for asker in askers:
                    asker.cancel()
                await asyncio.gather(*askers, return_exceptions=True)
    finally:
        await asyncio.to_thread(minio.stop)
    return load
