"""The redaction service over gRPC beside an empty one: two processes, and a client that measures both in turn."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer, Service
from djp.v1 import redaction_pb2, redaction_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
IN_FLIGHT = 16
TIMEOUT_S = 60.0


class Echo(redaction_pb2_grpc.RedactionServiceServicer):
    """Gives the text back as it is."""

    async def Redact(self, request: redaction_pb2.RedactRequest, context: Any) -> redaction_pb2.RedactResponse:
        return redaction_pb2.RedactResponse(text=request.text)


async def serve_echo(address: str) -> None:
    """The empty RPC's process: the mesh's own server around an empty method, until it is told to end."""
    descriptor = redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"]
    service = Service("redaction", [(descriptor, Echo(), redaction_pb2_grpc.add_RedactionServiceServicer_to_server)])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with MeshServer(service, address):
        await ended.wait()


def measure_service(texts: Sequence[str], turns: int) -> dict[str, float]:
    """Documents a second and the 99th percentile of a call with 16 calls in flight, and what one call alone takes.

    Names start with `service_` or `empty_`.
    """
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as addresses:
        return asyncio.run(_measure(texts, turns, addresses))


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of both, by name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJP_", "OTEL_"))}
    environment |= {"DJP_HOME": str(folder), "DJP_LOG_LEVEL": "WARNING"}
    addresses = {name: f"unix:{folder / name}.sock" for name in ("service", "empty")}
    djp = str(Path(sys.executable).with_name("djp"))
    with ExitStack() as stack:
        for command in (
            [djp, "serve", "redaction", "--listen", addresses["service"]],
            [sys.executable, "-m", "benchmarks.redaction_peers.service", addresses["empty"]],
        ):
            stack.callback(_end, subprocess.Popen(command, cwd=ROOT, env=environment))
        yield addresses


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _answered(stub: redaction_pb2_grpc.RedactionServiceAsyncStub) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            await stub.Redact(redaction_pb2.RedactRequest(text="x"), timeout=TIMEOUT_S)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _measure(texts: Sequence[str], turns: int, addresses: Mapping[str, str]) -> dict[str, float]:
    requests = [redaction_pb2.RedactRequest(text=text) for text in texts]
    rates, took, alone = ({name: list[float]() for name in addresses} for _ in range(3))

    async def calls(
        stub: redaction_pb2_grpc.RedactionServiceAsyncStub, numbers: Iterator[int], ms: list[float]
    ) -> None:
        for at in numbers:
            began = time.perf_counter()
            await stub.Redact(requests[at], timeout=TIMEOUT_S)
            ms.append(1000 * (time.perf_counter() - began))

    async with AsyncExitStack() as stack:
        stubs = {}
        for name, address in addresses.items():
            stubs[name] = redaction_pb2_grpc.RedactionServiceStub(
                await stack.enter_async_context(open_channel(address))
            )
            await _answered(stubs[name])
            await calls(stubs[name], iter(range(len(requests))), [])  # warm-up
        for _ in range(turns):
            for name, stub in stubs.items():
                numbers = iter(range(len(requests)))
                began = time.perf_counter()
                await asyncio.gather(*(calls(stub, numbers, took[name]) for _ in range(IN_FLIGHT)))
                rates[name].append(len(requests) / (time.perf_counter() - began))
                await calls(stub, iter(range(0, len(requests), 5)), alone[name])
    return {
        f"{name}_{what}": value
        for name in addresses
        for what, value in (
            ("docs_per_s", statistics.median(rates[name])),
            ("p99_ms", percentile(took[name], 99)),
            ("alone_p50_ms", percentile(alone[name], 50)),
            ("alone_p99_ms", percentile(alone[name], 99)),
        )
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many per cent of the values do not pass."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


if __name__ == "__main__":
    asyncio.run(serve_echo(sys.argv[1]))
