"""One way to start a target: health, reflection, the call pipeline, background work, a graceful drain on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from djp.mesh import listen, telemetry
from djp.mesh.deadline import deadline_scope
from djp.mesh.errors import DjpError, FailedPrecondition
from djp.mesh.interceptors import CallPipeline
from djp.mesh.local import LOCAL, LocalServer
from djp.mesh.logs import setup_logging
from djp.mesh.metrics import call_metrics, metrics_port
from djp.mesh.settings import MeshSettings, settings_problems
from djp.mesh.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from djp.mesh.interceptors import Authenticate, Authorize, StreamScope
_log = logging.getLogger(__name__)


class ServiceDescriptor(Protocol):
    """What is needed of a protobuf service descriptor."""

    @property
    def full_name(self) -> str:
        """As in `djp.v1.DebateService`."""


@dataclass(frozen=True)
class Service:
    """What a target serves: its short name, its servicers, and coroutines to run while it serves."""

    name: str
    servicers: Sequence[tuple[ServiceDescriptor, Any, Callable[[Any, grpc.aio.Server], None]]]
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    public: bool = False
    """Callers come from outside: on a port, where anybody may call, what they say they are (tenant, role, run) does not
    count. On a Unix socket, which only its owner can open, and within a process it does."""
    authenticate: Authenticate | None = None
    """Says who calls, before anything else is done."""
    authorize: Authorize | None = None
    """Says whether they may, right after that."""
    stream_scope: StreamScope | None = None
    """Entered for as long as a stream is open, either way."""
    on_drain: Sequence[Callable[[], None]] = ()
    """Called once a drain has begun and no new call comes in: what ends streams that never end by themselves."""


class MeshServer:
    """A service listening on one address; several may share a process and its event loop. At `local:NAME` only that
    event loop can call it, without a wire.

    `drain_delay_s` is the wait between NOT_SERVING and refusing calls (0 when embedded: nobody balances load there).
    """

    def __init__(
        self, service: Service, address: str, *, settings: MeshSettings | None = None, drain_delay_s: float = 0.0
    ) -> None:
        self.service = service
        self.address = address
        self.failure: BaseException | None = None
        self._settings = settings or MeshSettings()
        self._drain_delay_s = drain_delay_s
        self._pipeline = CallPipeline(
            service.name,
            metrics=call_metrics() if self._settings.metrics_port is not None else None,
            strangers=service.public and not address.startswith(("unix:", LOCAL)),
            authenticate=service.authenticate,
            authorize=service.authorize,
            stream_scope=service.stream_scope,
        )
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | LocalServer | None = None
        self._background: list[asyncio.Task[None]] = []
        self._drained: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()

    async def start(self) -> None:
        """Listen and serve. `address` then names the real port. Raises FailedPrecondition when the address is taken."""
        names = [descriptor.full_name for descriptor, _, _ in self.service.servicers]
        within = self.address.startswith(LOCAL)
        server: Any = LocalServer(self.address, self._pipeline) if within else self._listening(names)
        for _, servicer, add_to_server in self.service.servicers:
            add_to_server(servicer, server)
        await server.start()
        listen.protect_socket(self.address)
        self._server = server
        self._background = [asyncio.create_task(self._run_background(work)) for work in self.service.background]
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_s: float | None = None) -> None:
        """Stop gracefully; safe to call twice. Calls in flight get `grace_s` seconds (default: the setting)."""
        if self._drained is None:
            self._drained = asyncio.create_task(
                self._drain(self._settings.drain_grace_s if grace_s is None else grace_s)
            )
        await asyncio.shield(self._drained)

    async def _drain(self, grace_s: float) -> None:
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        if self._drain_delay_s:
            await asyncio.sleep(self._drain_delay_s)
        stopped = asyncio.create_task(self._server.stop(grace_s))
        await asyncio.sleep(0)
        self._pipeline.end_watchers()
        for end in self.service.on_drain:
            end()
        await stopped
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        listen.remove_socket(self.address)

    async def failed(self) -> BaseException:
        """Waits until a background coroutine has failed, and gives the cause."""
        await self._failed.wait()
        assert self.failure is not None  # noqa: S101  set before the event
        return self.failure

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain()

    async def _run_background(self, work: Callable[[], Awaitable[None]]) -> None:
        with telemetry.service_scope(self.service.name), deadline_scope(None):
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as e:
                _log.exception("background work of %s failed; it no longer serves", self.service.name)
                self.failure = e
                self._failed.set()
                await self._health.enter_graceful_shutdown()

    def _listening(self, names: Sequence[str]) -> grpc.aio.Server:
        """A server of gRPC's on the address, with health and reflection for those outside."""
        listen.prepare(self.address)
        server = grpc.aio.server(interceptors=[self._pipeline], options=self._options())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self._bind(server)
        return server

    def _bind(self, server: grpc.aio.Server) -> None:
        tls = None if self.address.startswith("unix:") else self._settings.tls
        try:
            if tls is None:
                port = server.add_insecure_port(self.address)
            else:
                port = server.add_secure_port(self.address, server_credentials(tls))
        except RuntimeError as e:  # taken since it was probed
            raise FailedPrecondition(f"cannot listen on {self.address}: {e}") from e
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"

    def _options(self) -> list[tuple[str, Any]]:
        settings = self._settings
        options = [
            ("grpc.so_reuseport", 0),  # two servers on a port is a mistake, not a feature
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
        if not self.address.startswith("unix:"):
            options += [
                ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
                ("grpc.max_connection_age_grace_ms", int(settings.max_connection_age_grace_s * 1000)),
            ]
        return options


def run_target(
    open_service: Callable[[], AbstractAsyncContextManager[Service]],
    address: str,
    *,
    settings: MeshSettings | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Returns the exit code: 0, or 1 when it could not start or go on.

    A start that fails is one line on standard error.
    """
    try:
        settings = settings or MeshSettings()
        setup_logging(settings.log_level or "INFO")
        return asyncio.run(_serve(open_service, address, settings))
    except DjpError as e:
        print(f"error: {e.message}", file=sys.stderr)  # noqa: T201  before or instead of logging
    except ValidationError as e:
        for problem in settings_problems(e):
            print(f"error: {problem}", file=sys.stderr)  # noqa: T201
    return 1


async def _serve(
    open_service: Callable[[], AbstractAsyncContextManager[Service]], address: str, settings: MeshSettings
) -> int:
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    try:
        with metrics_port(settings.metrics_port):
            async with open_service() as service:
                # What a start makes stays. To look for garbage among it stops everything for a tenth of a second.
                gc.freeze()
                telemetry.setup(service.name, otlp_endpoint=settings.otlp_endpoint)
                async with MeshServer(
                    service, address, settings=settings, drain_delay_s=settings.drain_delay_s
                ) as server:
                    _log.info("%s listening on %s", service.name, server.address)
                    ends = [asyncio.ensure_future(signalled.wait()), asyncio.ensure_future(server.failed())]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    for end in ends:
                        end.cancel()
                    await asyncio.gather(*ends, return_exceptions=True)
                    _log.info("%s draining", service.name)
            return 1 if server.failure else 0
    finally:
        with contextlib.suppress(Exception):
            await asyncio.to_thread(telemetry.shutdown)
