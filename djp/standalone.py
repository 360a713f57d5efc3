"""The whole mesh in one process: six leaves, and the gateway over them. The only module that imports every service."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from djp.mesh import telemetry
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.mesh.local import LOCAL
from djp.mesh.server import MeshServer, Service, run_target
from djp.mesh.settings import MeshSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GATEWAY_PORT = 7100
LEAF_PORTS = {
    "debate": 7101,
    "judge": 7102,
    "redaction": 7103,
    "grounding": 7104,
    "governance": 7105,
    "storage": 7106,
}
_ONE_MESH = (
    "; wait for it, or, if it is `djp up` or `djp serve all`, give --gateway (localhost:7100, unless it listens "
    "elsewhere), or choose another folder with DJP_HOME"
)
SERVICES = (*LEAF_PORTS, "gateway")

_meshes = count(1)

OpenService = Callable[[], AbstractAsyncContextManager[Service]]


def leaf(name: str) -> OpenService:
    """What opens a leaf, with its settings from the environment; imports that service only."""
    match name:
        case "debate":
            from djp.llm.settings import LlmSettings
            from djp_debate.server import open_service as open_debate

            return lambda: open_debate(LlmSettings())
        case "judge":
            from djp.llm.settings import LlmSettings
            from djp_judge.server import open_service as open_judge

            return lambda: open_judge(LlmSettings())
        case "redaction":
            from djp_redaction.server import open_service as open_redaction
            from djp_redaction.settings import RedactionSettings

            return lambda: open_redaction(RedactionSettings())
        case "grounding":
            from djp_grounding.server import open_service as open_grounding
            from djp_grounding.settings import GroundingSettings

            return lambda: open_grounding(GroundingSettings())
        case "governance":
            from djp_governance.server import open_service as open_governance
            from djp_governance.settings import GovernanceSettings

            return lambda: open_governance(GovernanceSettings())
        case "storage":
            from djp_storage.server import open_service as open_storage
            from djp_storage.settings import StorageSettings

            return lambda: open_storage(StorageSettings())
    raise InvalidInput(f"there is no service {name!r}; there are: {', '.join(SERVICES)}, all", field="service")


def gateway(leaves: dict[str, str] | None = None, executor: str = "") -> OpenService:
    """What opens the gateway; `leaves` (name to address) wins over the environment.

    With an `executor` it is the only gateway that works on its data folder.
    """
    from djp.scaling.settings import ScalingSettings
    from djp_gateway.server import open_service
    from djp_gateway.settings import GatewaySettings

    settings, scaling = GatewaySettings(), ScalingSettings()
    if leaves:
        addresses = {f"{name}_address": address for name, address in leaves.items()}
        settings = settings.model_copy(update=addresses)
    if executor:
        settings = settings.model_copy(update={"executor_id": executor})
    return lambda: open_service(settings, scaling, alone=bool(executor))


@asynccontextmanager
async def standalone_mesh(listen: str = "") -> AsyncIterator[str]:
    """The mesh, up; yields the gateway's address, which only this process can call unless it is to `listen` on another.

    On exit the gateway goes first, so that the runs it ends can still give their money back.

    Raises:
        FailedPrecondition: another process holds DJP_HOME, or the folder cannot be written.
    """
    from djp_gateway.ports import COMMAND

    mesh = _new_mesh()
    async with _whole_mesh(mesh, COMMAND) as service:
        server = MeshServer(service, listen or f"{mesh}/gateway")
        await server.start()
        try:
            yield server.address
        finally:
            await server.drain(0.0)


def serve_all(listen: str | None = None, *, rest: bool = False) -> int:
    """Run the whole mesh in this process until SIGTERM or SIGINT, with the REST bridge before it if `rest`.

    Returns the exit code. Raises FailedPrecondition: what the bridge needs is not installed.
    """
    address = listen or f"localhost:{GATEWAY_PORT}"
    before = [_bridge(address)] if rest else []

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Service]:
        async with _whole_mesh(_new_mesh(), "standalone") as service:
            yield replace(service, background=[*service.background, *before])

    return run_target(open_service, address)


def _bridge(address: str) -> Callable[[], Awaitable[None]]:
    from djp.rest import Bridge
    from djp.rest_envoy import RestSettings

    return Bridge(address, RestSettings(), MeshSettings()).run


def serve_one(service: str, listen: str | None = None) -> int:
    """Run one target in this process until SIGTERM or SIGINT; returns the exit code."""
    if service == "gateway":
        return run_target(_only_gateway, listen or f"localhost:{GATEWAY_PORT}")
    return run_target(leaf(service), listen or f"localhost:{LEAF_PORTS[service]}")


@asynccontextmanager
async def _only_gateway() -> AsyncIterator[Service]:
    """The gateway, if none works here under the same executor's name: it would take over that one's runs."""
    from djp_gateway.settings import GatewaySettings

    executor = GatewaySettings().executor_id
    name = f"gateway-{sha256(executor.encode()).hexdigest()[:12]}-"
    with _hold(MeshSettings().home, name, f"; stop it, or give this one a DJP_EXECUTOR_ID other than {executor!r}"):
        async with gateway()() as service:
            yield service


def _new_mesh() -> str:
    """Where the services of one more mesh in this process are; each has its own data folder."""
    return f"{LOCAL}{next(_meshes)}"


@asynccontextmanager
async def _whole_mesh(mesh: str, executor: str) -> AsyncIterator[Service]:
    """Six leaves serving within this process only, and the gateway over them, not serving yet."""
    settings = MeshSettings()
    async with AsyncExitStack() as stack:
        stack.enter_context(_hold(settings.home, "", _ONE_MESH))
        stack.callback(telemetry.shutdown)

        async def opened(open_service: OpenService) -> Service:
            service = await stack.enter_async_context(open_service())
            spans = settings.home / "traces"
            telemetry.setup(service.name, otlp_endpoint=settings.otlp_endpoint, spans_dir=spans)
            return service

        with _without_gc():
            addresses = {}
            for name in LEAF_PORTS:
                server = MeshServer(await opened(leaf(name)), f"{mesh}/{name}", settings=settings)
                await server.start()
                stack.push_async_callback(server.drain, 0.0)  # only the gateway calls it, and that is gone by then
                addresses[name] = server.address
            service = await opened(gateway(addresses, executor))
        yield service


@contextmanager
def _without_gc() -> Iterator[None]:
    """What is imported and opened at the start stays: looking for garbage among it costs a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _hold(home: Path, name: str, remedy: str) -> Iterator[None]:
    """Keep every other holder of that name off the folder; the system lets go of it when the process dies."""
    holder = home / f"{name}holder"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(home / f"{name}lock")
        lock.acquire(blocking=False)
        holder.write_text(str(os.getpid()))
    except Timeout as error:
        process = _read(holder)
        raise FailedPrecondition(
            f"data folder {home} is in use by another djp{f' (process {process})' if process else ''}{remedy}"
        ) from error
    except OSError as error:
        raise FailedPrecondition(
            f"data folder {home} cannot be written ({error.strerror}); mend its permissions, free some space, or "
            "choose another with DJP_HOME"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
