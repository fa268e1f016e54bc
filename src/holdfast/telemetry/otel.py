"""Tracing by OpenTelemetry: the API alone, which the extra `otel` brings; the SDK and its exporters are the user's."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from holdfast.errors import MissingExtra
from holdfast.telemetry.tracing import TraceParent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdfast.worker.context import Context


class OtelTracer:
    """A Tracer over OpenTelemetry's current context and propagator."""

    def __init__(self, provider: Any = None) -> None:
        """`provider` is a TracerProvider; None: the global one. Raises MissingExtra without opentelemetry-api."""
        try:
            self._trace: Any = import_module("opentelemetry.trace")
            self._propagate: Any = import_module("opentelemetry.propagate")
        except ImportError as error:
            raise MissingExtra("OpenTelemetry", "otel") from error
        self._tracer = self._trace.get_tracer("holdfast", tracer_provider=provider)

    def outgoing(self) -> Mapping[str, str]:
        """What the propagator sends along: traceparent, tracestate, baggage."""
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier)
        return carrier

    @contextmanager
    def attempt(self, ctx: Context, headers: Mapping[str, Any]) -> Iterator[TraceParent]:
        """Open a consumer span; what the handler raises is recorded on it."""
        texts = {name: value for name, value in headers.items() if isinstance(value, str)}
        attributes = {
            "messaging.system": "holdfast",
            "messaging.operation.type": "process",
            "messaging.destination.name": ctx.queue,
            "messaging.message.id": ctx.id,
            "holdfast.task": ctx.task,
            "holdfast.attempt": ctx.attempt,
        }
        with self._tracer.start_as_current_span(
            f"process {ctx.task}",
            context=self._propagate.extract(texts),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=attributes,
        ) as span:
            place = span.get_span_context()
            yield TraceParent(
                self._trace.format_trace_id(place.trace_id),
                self._trace.format_span_id(place.span_id),
                bool(place.trace_flags & 1),
            )
