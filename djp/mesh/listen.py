"""Where a server listens: checks an address before grpc takes it, so that a taken one gives a clear error."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from djp.mesh.errors import FailedPrecondition, InvalidInput

# sun_path is 108 bytes on Linux (104 on macOS) with the terminating zero.
_MAX_SOCKET_PATH = 103


def prepare(address: str) -> None:
    """Make the folder of a Unix socket (mode 0700), clear a dead socket away, and see that a port is free.

    Raises InvalidInput for a malformed address and FailedPrecondition when something listens there already.
    """
    if address.startswith("unix:"):
        _prepare_socket(Path(address.removeprefix("unix:")))
    else:
        _probe_port(address, *split_host_port(address))


def split_host_port(address: str) -> tuple[str, int]:
    """`("localhost", 50051)` of `localhost:50051`; an IPv6 host may stand in brackets. Raises InvalidInput."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(
            f"{address!r} is not an address to listen on: use host:port or unix:/path/to/socket", field="address"
        )
    return host.strip("[]"), int(port)


def remove_socket(address: str) -> None:
    """Remove the socket file a stopped server left behind."""
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _prepare_socket(path: Path) -> None:
    length = len(os.fsencode(path))
    if not 0 < length <= _MAX_SOCKET_PATH:
        raise InvalidInput(
            f"socket path {path} has {length} bytes and the limit is {_MAX_SOCKET_PATH}: choose a shorter folder",
            field="address",
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.is_socket():
            if path.exists():
                raise FailedPrecondition(f"{path} exists and is not a socket: remove it or choose another path")
            if not os.access(path.parent, os.W_OK):
                raise FailedPrecondition(f"cannot make a socket in {path.parent}: the folder is not writable")
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            with contextlib.suppress(ConnectionRefusedError):  # nobody listens: a killed server left it
                probe.connect(str(path))
                raise FailedPrecondition(f"another server listens on {path}: stop it or choose another path")
        path.unlink(missing_ok=True)
    except OSError as e:
        raise FailedPrecondition(f"cannot listen on {path}: {e.strerror or e}") from e


def _probe_port(address: str, host: str, port: int) -> None:
    try:
        family, kind, proto, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except socket.gaierror as e:
        raise InvalidInput(f"cannot listen on {address}: unknown host {host!r}", field="address") from e
    except OSError as e:
        remedy = {
            errno.EADDRINUSE: "the port is taken: stop the other server or choose another port",
            errno.EACCES: "not allowed: choose a port above 1023",
        }.get(e.errno or 0, e.strerror or str(e))
        raise FailedPrecondition(f"cannot listen on {address}: {remedy}") from e


def protect_socket(address: str) -> None:
    """Only the owner may connect to a fresh Unix socket, even in a folder that others may enter."""
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).chmod(stat.S_IRWXU)
