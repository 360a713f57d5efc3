"""The bridge by itself, without a mesh: bodies that never end, and a check that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

import djp.rest
import djp.rest_bounds
from djp.mesh.settings import MeshSettings
from djp.rest import Bridge
from djp.rest_envoy import RestSettings
from tests.rest.djp_up import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

MIB = 1 << 20
HEAP = 128 * MIB
BODY = b" " * (3 * MIB)


@asynccontextmanager
async def bridged() -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a bridge that answers, with no gateway behind it."""
    address = f"127.0.0.1:{free_port()}"
    bridge = Bridge("127.0.0.1:1", RestSettings(listen=address, max_body_mib=4), MeshSettings())
    serving = asyncio.create_task(bridge.run())
    try:
        async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            await until_it_answers(client, 200)
            yield client
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def test_bodies_that_never_end_fill_no_more_memory_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(djp.rest_bounds, "LEAST_HEAP", HEAP)
    flood: list[asyncio.StreamWriter] = []
    async with bridged() as client:
        before = envoys_memory()
        for _ in range(400):
            flood.append(await unended(client))
            if (await client.get("/openapi.json")).status_code == 503:
                break
        refused = await until_it_answers(client, 503)
        assert [detail["reason"] for detail in refused.json()["details"]] == ["UNAVAILABLE"]
        for _ in range(400):
            flood.append(await unended(client))
        assert envoys_memory() < before + 4 * HEAP < before + len(flood) * len(BODY)
        for one in flood:
            one.transport.abort()
        await until_it_answers(client, 200)


async def test_a_call_that_cannot_be_checked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def check(self, *_: object) -> None:
            raise RuntimeError("no check")

    monkeypatch.setattr(djp.rest, "Strict", Broken)
    async with bridged() as client:
        answer = await client.get("/v1/presets")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
    assert answer.json()["message"] == "the call could not be checked in time; make it again"
    assert [detail["reason"] for detail in answer.json()["details"]] == ["UNAVAILABLE"]


async def unended(client: httpx2.AsyncClient) -> asyncio.StreamWriter:
    """A call whose body lacks its last byte."""
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (len(BODY) + 1) + BODY)
    with suppress(OSError):
        await writer.drain()
    return writer


async def until_it_answers(client: httpx2.AsyncClient, status: int) -> httpx2.Response:
    async with asyncio.timeout(60):
        while True:
            with suppress(httpx2.TransportError):
                answer = await client.get("/openapi.json")
                if answer.status_code == status:
                    return answer
            await asyncio.sleep(0.02)


def envoys_memory() -> int:
    """In bytes."""
    told = subprocess.run(["pgrep", "-P", str(os.getpid()), "envoy"], capture_output=True, text=True, check=True)
    (pid,) = told.stdout.split()
    status = Path(f"/proc/{pid}/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) * 1024
