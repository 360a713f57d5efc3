"""Traces: one provider per service name (seven may share a process), one trace across a run's calls and across the
processes that work on it one after the other, run id and tenant on every span. Without an exporter nothing is recorded
and the SDK is never imported; the trace context still travels on. Text of tasks, drafts and errors is never recorded.
"""

from __future__ import annotations

import re
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from djp.mesh import semconv
from djp.mesh.errors import DjpError
from djp.mesh.identity import current_identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

BAGGAGE_KEY = "baggage"
"""The W3C header in which the run's id travels."""

_PROPAGATORS = (TraceContextTextMapPropagator(), W3CBaggagePropagator())
_NO_TRACER = trace.NoOpTracerProvider().get_tracer("djp")

_providers: dict[str, TracerProvider] = {}
_tracers: dict[str, Tracer] = {}
_service: ContextVar[str] = ContextVar("djp_service", default="")
_own_ids: ContextVar[tuple[int, int] | None] = ContextVar("djp_own_ids", default=None)


def setup(service: str, *, otlp_endpoint: str | None = None, spans_dir: Path | None = None) -> None:
    """Record the spans of `service`: to an OTLP collector, to a local span store, or both; to neither does nothing.

    Idempotent: the first setup of a service name holds until `shutdown`.
    """
    if service in _providers or not (otlp_endpoint or spans_dir):
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from djp.mesh.run_spans import RunTraceIds, spans_kept_in

    provider = TracerProvider(
        resource=Resource({semconv.SERVICE_NAME: service}), id_generator=RunTraceIds(), shutdown_on_exit=False
    )
    if spans_dir:
        provider.add_span_processor(spans_kept_in(spans_dir))
    if otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint)))
    _providers[service], _tracers[service] = provider, provider.get_tracer("djp")


def shutdown() -> None:
    """Send what is not sent yet and forget every provider; call once, when the process's last target has drained."""
    _tracers.clear()
    while _providers:
        _providers.popitem()[1].shutdown()


@contextmanager
def service_scope(service: str) -> Iterator[None]:
    """Spans made inside the block belong to `service`. Servers do this for handlers and background work."""
    token = _service.set(service)
    try:
        yield
    finally:
        _service.reset(token)


@contextmanager
def run_scope(run_id: str) -> Iterator[None]:
    """Everything inside the block, on every service it calls, is part of run `run_id` (its spans carry the id).

    If that is a UUID, its spans are below the run's own, whoever works on the run: see `part_scope`.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"run id {run_id[:80]!r} is malformed: 1 to 64 letters, digits, '_' and '-'")
    token = otel_context.attach(_below(0, baggage.set_baggage(semconv.DJP_RUN_ID, run_id)))
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def part_scope(part: int) -> Iterator[None]:
    """Spans inside the block are below that part of the current run; part 0 is the run itself, all others are below it.

    Ids of trace and parts follow from the run's id, so that a process that knows nothing but the run can record, with
    `part_ended`, the span of what another process has begun and did not live to end.
    """
    token = otel_context.attach(_below(part, otel_context.get_current()))
    try:
        yield
    finally:
        otel_context.detach(token)


def part_ended(part: int, name: str, began_ns: int, *, ended_ns: int | None = None, failed: str = "") -> None:
    """Record the span of a part of the current run, in nanoseconds since the epoch; without `ended_ns` it ends now.

    `failed`: why, if it has.
    """
    ids = _ids_of(part)
    if ids is None:
        return
    context = _below(0, otel_context.get_current()) if part else trace.set_span_in_context(trace.INVALID_SPAN)
    token = _own_ids.set(ids)
    try:
        recorded = _tracer().start_span(name, context, attributes=_run_attributes(), start_time=began_ns)
    finally:
        _own_ids.reset(token)
    if failed:
        _mark_failed(recorded, failed)
    recorded.end(ended_ns)


def _ids_of(part: int, context: otel_context.Context | None = None) -> tuple[int, int] | None:
    """Of the run's trace and of the part's span: the run's UUID, and the half of that which is never 0, by part."""
    try:
        whole = uuid.UUID(str(baggage.get_baggage(semconv.DJP_RUN_ID, context))).int
    except ValueError:
        return None
    return whole, (whole & 0xFFFF_FFFF_FFFF_FFFF) ^ part


def _below(part: int, context: otel_context.Context) -> otel_context.Context:
    ids = _ids_of(part, context)
    if ids is None:
        return context
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    above = trace.SpanContext(*ids, is_remote=True, trace_flags=sampled)
    return trace.set_span_in_context(trace.NonRecordingSpan(above), context)


def own_ids() -> tuple[int, int] | None:
    """Of the trace and the span of a run's part that is recorded now; None: it is any other span."""
    return _own_ids.get()


def current_run_id() -> str:
    """The id of the run the current work is part of, or an empty string."""
    return str(baggage.get_baggage(semconv.DJP_RUN_ID) or "")


def current_trace_id() -> str:
    """The id of the trace that the current work is part of, in hexadecimal; zeros if of none."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


@contextmanager
def span(name: str, /, **attributes: AttributeValue) -> Iterator[Span]:
    """A span of the current service around a piece of work; an exception marks it failed (its kind, never its text)."""
    with _span(name, SpanKind.INTERNAL, attributes) as current:
        yield current


@contextmanager
def server_span(service: str, method: str, metadata: Mapping[str, str]) -> Iterator[Span]:
    """The span of a call being served, a child of the caller's span when `metadata` names one.

    `method` is the full one, `/package.Service/Method`. The context around is not inherited: a handler's task begins
    with whatever the server was started in.
    """
    rpc_service, _, rpc_method = method.removeprefix("/").partition("/")
    attributes: dict[str, AttributeValue] = {
        semconv.RPC_SYSTEM: "grpc",
        semconv.RPC_SERVICE: rpc_service,
        semconv.RPC_METHOD: rpc_method,
    }
    token = otel_context.attach(_context_from(metadata))
    try:
        with service_scope(service), _span(method.removeprefix("/"), SpanKind.SERVER, attributes) as current:
            yield current
    finally:
        otel_context.detach(token)


def trace_metadata() -> dict[str, str]:
    """The W3C headers (`traceparent`, `baggage`) that tell the next server where it is in the trace."""
    carrier: dict[str, str] = {}
    for propagator in _PROPAGATORS:
        propagator.inject(carrier)
    return carrier


def _context_from(metadata: Mapping[str, str]) -> otel_context.Context:
    context = otel_context.Context()
    for propagator in _PROPAGATORS:
        context = propagator.extract(metadata, context)
    run_id = str(baggage.get_baggage(semconv.DJP_RUN_ID, context) or "")
    context = baggage.clear(context)  # only the run id goes further; other people's baggage stays at the door
    return baggage.set_baggage(semconv.DJP_RUN_ID, run_id, context) if RUN_ID.fullmatch(run_id) else context


@contextmanager
def _span(name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> Iterator[Span]:
    with _tracer().start_as_current_span(
        name,
        kind=kind,
        attributes={**_run_attributes(), **attributes},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as e:
            _mark_failed(current, e.reason if isinstance(e, DjpError) else type(e).__name__)
            raise


def _tracer() -> Tracer:
    return _tracers.get(_service.get(), _NO_TRACER)


def _mark_failed(failed: Span, reason: str) -> None:
    failed.set_attribute(semconv.DJP_ERROR_REASON, reason)
    failed.set_status(Status(StatusCode.ERROR, reason))


def _run_attributes() -> dict[str, str]:
    """What every span of a run carries."""
    run_id = current_run_id()
    attributes = {semconv.DJP_TENANT: current_identity().tenant}
    return attributes | {semconv.DJP_RUN_ID: run_id} if run_id else attributes
