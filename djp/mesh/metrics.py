"""Prometheus metrics of served calls, and the `/metrics` port."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Counter, Gauge, Histogram

# From a look-up to a whole debate, in seconds.
_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)


class CallMetrics:
    """Counts calls by service, method and status code. One per process: use `call_metrics()`."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._requests: Counter = Counter("djp_requests_total", "Calls served.", ["service", "method", "code"])
        self._seconds: Histogram = Histogram(
            "djp_request_seconds", "Time to serve a call.", ["service", "method"], buckets=_BUCKETS
        )
        self._inflight: Gauge = Gauge("djp_inflight_requests", "Calls being served now.", ["service"])

    @contextmanager
    def inflight(self, service: str) -> Iterator[None]:
        """Counts a call as in flight during the block."""
        with self._inflight.labels(service).track_inprogress():
            yield

    def served(self, service: str, method: str, code: str, seconds: float) -> None:
        """Counts a call that ended with the status code named `code`."""
        self._requests.labels(service, method, code).inc()
        self._seconds.labels(service, method).observe(seconds)


@functools.cache
def call_metrics() -> CallMetrics:
    """The process's one set of call metrics; imports prometheus_client."""
    return CallMetrics()


@contextmanager
def metrics_port(port: int | None) -> Iterator[None]:
    """Serve `/metrics` on `port` during the block, or nothing for None. Raises FailedPrecondition when it is taken."""
    if port is None:
        yield
        return
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port)
    except OSError as e:
        raise FailedPrecondition(
            f"cannot serve metrics on port {port}: {e.strerror}; set another DJP_METRICS_PORT"
        ) from e
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
