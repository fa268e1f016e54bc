"""Tracing: a job carries the trace of whoever enqueued it, and its attempts go on with it.

The trace travels in the job's headers as W3C `traceparent`. A `Tracer` says what to send along and opens a span around an
attempt; `LocalTracer` makes ids alone and exports nothing, `holdfast.telemetry.otel` speaks to OpenTelemetry.

    store = FrontDoor(store, prepare=with_trace(tracer))
    hooks = Hooks(middleware=[traced(tracer)])
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from holdfast.job.model import NewJob
    from holdfast.worker.context import Context
    from holdfast.worker.hooks import CallNext, Middleware

HEADER: Final = "traceparent"
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_objects: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


class TraceParent(msgspec.Struct, frozen=True):
    """A place in a trace: 32 and 16 hex digits, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        """Return the header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def parse(header: object) -> TraceParent | None:
    """Return what a traceparent says; None for anything that is none (W3C Trace Context, §3.2).

    >>> parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").span_id
    '00f067aa0ba902b7'
    >>> parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01") is None
    True
    """
    found = _FORM.fullmatch(header) if isinstance(header, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may say more; version 00 may not, and ff is none.
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


class Tracer(Protocol):
    """What tracing needs."""

    def outgoing(self) -> Mapping[str, str]:
        """Return the headers that carry the current trace to a job that is enqueued now."""
        ...

    def attempt(self, ctx: Context, headers: Mapping[str, Any]) -> AbstractContextManager[TraceParent]:
        """Open the span of an attempt, below the trace in the job's `headers`; it is closed with the attempt."""
        ...


class LocalTracer:
    """Makes ids and passes them on; exports nothing. Attempts and log lines then tell what belongs together."""

    def __init__(self, draw: Callable[[int], bytes] = os.urandom) -> None:
        """`draw` returns that many random bytes."""
        self._draw = draw
        self._current: ContextVar[TraceParent | None] = ContextVar("holdfast_trace", default=None)

    def outgoing(self) -> Mapping[str, str]:
        """The current trace, or a new one: so that all attempts of a job share it."""
        return {HEADER: str(self._current.get() or self._below(None))}

    @contextmanager
    def attempt(self, ctx: Context, headers: Mapping[str, Any]) -> Iterator[TraceParent]:
        """Make the attempt's span the current one."""
        span = self._below(parse(headers.get(HEADER)))
        before = self._current.set(span)
        try:
            yield span
        finally:
            self._current.reset(before)

    def _below(self, parent: TraceParent | None) -> TraceParent:
        span_id = self._draw(8).hex()
        if parent is not None:
            return TraceParent(parent.trace_id, span_id, parent.sampled)
        return TraceParent(self._draw(16).hex(), span_id)


def with_trace(tracer: Tracer) -> Callable[[Sequence[NewJob]], Sequence[NewJob]]:
    """Return what a FrontDoor does with jobs on their way in: each gets the current trace, unless it carries one."""

    def prepare(jobs: Sequence[NewJob]) -> Sequence[NewJob]:
        return [_with_headers(job, tracer) for job in jobs]

    return prepare


def _with_headers(job: NewJob, tracer: Tracer) -> NewJob:
    headers = _decoded(job.headers)
    if headers is None or HEADER in headers:
        return job
    return replace(job, headers=_encode({**headers, **tracer.outgoing()}))


def _decoded(headers: bytes) -> dict[str, Any] | None:
    """The headers; None when somebody has put something else there, which tracing then leaves alone."""
    try:
        return _objects.decode(headers) if headers else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def traced(tracer: Tracer) -> Middleware:
    """Return the middleware that opens a span around each attempt, and writes its ids to the attempt."""

    async def around(ctx: Context, call_next: CallNext) -> object:
        headers = _decoded(getattr(ctx.claim.item, "headers", b"")) or {}
        with tracer.attempt(ctx, headers) as span:
            ctx.trace_id, ctx.span_id = span.trace_id, span.span_id
            return await call_next()

    return around
