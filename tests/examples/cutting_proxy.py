"""A TCP proxy that cuts its first connections after so many bytes of answers, and lets the later ones be."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class CuttingProxy:
    """`limits` has the bytes that come back on the first connections whose answers are longer, in turn."""

    def __init__(self, target: str, limits: Sequence[int] = ()) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._limits = list(limits)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.cuts = 0
        self.answered = 0
        """Bytes of answers in all."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every connection."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        with self._lock:
            for one in self._open:
                _end(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                with self._lock:
                    self._open |= {near, far}
                threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        _end(source), _end(target)

    def _answer(self, far: socket.socket, near: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := far.recv(65536):
                with self._lock:
                    self.answered += len(data)
                    cut = bool(self._limits) and sent + len(data) > self._limits[0]
                    if cut:
                        data = data[: self._limits.pop(0) - sent]
                        self.cuts += 1
                near.sendall(data)
                sent += len(data)
                if cut:
                    break
        _end(near), _end(far)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
