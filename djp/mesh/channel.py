"""One way to open a channel: round robin, keepalive, TLS; identity, deadline and trace are sent along."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.errors import InvalidInput
from djp.mesh.local import LOCAL, LocalChannel
from djp.mesh.outgoing import outgoing
from djp.mesh.settings import MeshSettings
from djp.mesh.tls import channel_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djp.mesh.settings import TlsFiles

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):\d{1,5}")
_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


def open_channel(
    address: str,
    *,
    tls: TlsFiles | None = None,
    interceptors: Sequence[grpc.aio.UnaryUnaryClientInterceptor] = (),
    headers: Mapping[str, str] | None = None,
) -> grpc.aio.Channel:
    """A channel to `unix:/path`, `host:port`, `dns:///host:port` or `local:NAME`, a server of this process; connects at
    the first call.

    TLS is taken from `tls`, else from DJP_TLS_*, and never used on a Unix socket, which its folder's mode protects.
    `interceptors` see each call before ours do; `headers` are metadata of every call. Close it, or use it in
    `async with`. Raises InvalidInput for a malformed address.
    """
    settings = MeshSettings()
    if address.startswith(LOCAL):
        return LocalChannel(address, headers or {}, interceptors, settings.max_message_bytes)
    target = _target(address)
    options: list[tuple[str, Any]] = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.enable_http_proxy", 0),  # a proxy of the environment is for the outside world
        ("grpc.use_local_subchannel_pool", 1),  # a new channel starts fresh, not in an old one's backoff
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name, how long one attempt to connect may take
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    chain = (*interceptors, *(kind(headers or {}) for kind in kinds))
    files = tls or settings.tls
    if files is None or target.startswith("unix:"):
        return grpc.aio.insecure_channel(target, options=options, interceptors=chain)
    return grpc.aio.secure_channel(target, channel_credentials(files), options=options, interceptors=chain)


def _target(address: str) -> str:
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    host_port = address.removeprefix("dns:").removeprefix("///")
    if not _HOST_PORT.fullmatch(host_port):
        raise InvalidInput(f"{address!r} is not an address: use host:port or unix:/path/to/socket", field="address")
    return f"dns:///{host_port}"


def _outgoing(details: grpc.aio.ClientCallDetails, headers: Mapping[str, str]) -> grpc.aio.ClientCallDetails:
    metadata, timeout_s = outgoing(details.metadata, details.timeout, headers)
    return grpc.aio.ClientCallDetails(details.method, timeout_s, metadata, details.credentials, details.wait_for_ready)


class _WithHeaders:
    """An interceptor that knows the metadata of every call."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers


# grpc sorts interceptors by class and takes one that is of several kinds for the first only, hence four classes.
class _UnaryUnary(_WithHeaders, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_outgoing(client_call_details, self._headers), request)


class _UnaryStream(_WithHeaders, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_outgoing(client_call_details, self._headers), request)


class _StreamUnary(_WithHeaders, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(_outgoing(client_call_details, self._headers), request_iterator)


class _StreamStream(_WithHeaders, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(_outgoing(client_call_details, self._headers), request_iterator)
