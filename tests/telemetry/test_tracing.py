"""A job carries the trace of whoever enqueued it, and every attempt goes on with it."""

import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import MissingExtra
from holdfast.job.model import NewJob
from holdfast.telemetry.front_door import FrontDoor
from holdfast.telemetry.otel import OtelTracer
from holdfast.telemetry.tracing import HEADER, LocalTracer, TraceParent, Tracer, parse, traced, with_trace
from holdfast.worker.context import Context
from tests.worker.rig import AT_ONCE, Rig

HEX = "0123456789abcdef"
SAMPLE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def ids(digits: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=digits, max_size=digits).filter(lambda text: int(text, 16) > 0)


@given(trace_id=ids(32), span_id=ids(16), sampled=st.booleans())
def test_a_traceparent_is_read_as_it_was_written(trace_id: str, span_id: str, sampled: bool) -> None:
    parent = TraceParent(trace_id, span_id, sampled)
    assert parse(str(parent)) == parent


@pytest.mark.parametrize(
    "header",
    [
        None, 7, b"x", "", "00", SAMPLE.upper(), SAMPLE + " ", SAMPLE + "-more", "ff" + SAMPLE[2:], SAMPLE[:-3],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", SAMPLE + "\n",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_none(header: object) -> None:
    assert parse(header) is None


def test_a_later_version_may_say_more() -> None:
    assert parse("cc" + SAMPLE[2:] + "-what-the-future-brings") == parse(SAMPLE)


def through(rig: Rig, tracer: Tracer) -> FrontDoor:
    door = FrontDoor(rig.store, prepare=with_trace(tracer))
    rig.source = door
    return door


def job(job_id: str, task: str, **fields: Any) -> NewJob:
    return NewJob(id=job_id, task=task, retry=AT_ONCE, **fields)


def header_of(headers: bytes) -> TraceParent:
    found = parse(msgspec.json.decode(headers)[HEADER])
    assert found is not None
    return found


async def test_all_attempts_of_a_job_and_what_they_enqueue_share_one_trace(rig: Rig) -> None:
    tracer = LocalTracer()
    door = through(rig, tracer)

    @rig.task
    async def parent(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")
        await door.enqueue([job("child", "leaf")])

    @rig.task
    def leaf() -> None: ...

    await door.enqueue([job("root", "parent", headers=b'{"tenant":"a"}')])
    async with rig.working(middleware=(traced(tracer),)):
        [root] = await rig.ended("root")
        [child] = await rig.ended("child")
    first, second = root.attempts
    [leaf_run] = child.attempts
    assert msgspec.json.decode(root.headers)["tenant"] == "a"
    assert first.trace_id == second.trace_id == leaf_run.trace_id == header_of(root.headers).trace_id
    assert header_of(child.headers).span_id not in ("", first.span_id)
    assert len({first.span_id, second.span_id, leaf_run.span_id}) == 3


async def test_two_jobs_of_nobody_have_traces_of_their_own(rig: Rig) -> None:
    door = through(rig, LocalTracer())
    made = await door.enqueue([job("a", "t"), job("b", "t")])
    first, second = (header_of(answer.job.headers) for answer in made)
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize("headers", [f'{{"{HEADER}":"{SAMPLE}"}}'.encode(), b"not json", b"[1]", b"\xff", b"[" * 5_000])
async def test_headers_that_carry_a_trace_or_are_no_object_are_left_alone(rig: Rig, headers: bytes) -> None:
    tracer = LocalTracer()
    door = through(rig, tracer)

    @rig.task
    async def work() -> None: ...

    await door.enqueue([job("a", "work", headers=headers)])
    async with rig.working(middleware=(traced(tracer),)):
        [done] = await rig.ended("a")
    assert done.headers == headers
    assert done.last is not None
    assert len(done.last.trace_id) == 32
    assert (done.last.trace_id == SAMPLE[3:35]) == (HEADER.encode() in headers)


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # Python's own way to say that a module is not there
    with pytest.raises(MissingExtra, match=r"holdfast\[otel\]"):
        OtelTracer()


async def test_spans_of_opentelemetry_travel_with_the_job(rig: Rig) -> None:
    from opentelemetry import trace  # type: ignore[attr-defined,unused-ignore]

    tracer = OtelTracer()
    door = through(rig, tracer)
    place = trace.SpanContext(int("4b" * 16, 16), int("f0" * 8, 16), is_remote=False, trace_flags=trace.TraceFlags(1))

    @rig.task
    async def work() -> None: ...

    with trace.use_span(trace.NonRecordingSpan(place)):
        await door.enqueue([job("a", "work")])
    async with rig.working(middleware=(traced(tracer),)):
        [done] = await rig.ended("a")
    assert done.last is not None
    assert header_of(done.headers).trace_id == done.last.trace_id == "4b" * 16
