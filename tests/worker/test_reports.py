"""Progress, data and log lines: from async handlers and threads, fenced, and in order."""

import asyncio
import threading

import msgspec

from holdfast.errors import ContentError, TooLarge
from holdfast.job.commands import QueueWant, Want
from holdfast.job.model import Job
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.worker.context import CancelReason, Context
from tests.features import feature
from tests.worker.cut import CutSource
from tests.worker.rig import Rig


def lines(job: Job) -> list[list[object]]:
    assert job.last is not None
    found: list[list[object]] = msgspec.json.decode(job.last.log or b"[]")
    return found


def progress(job: Job) -> object:
    assert job.last is not None
    return msgspec.json.decode(job.last.progress or b"null")


@feature("T28")
async def test_progress_data_and_log_lines_of_a_running_job_can_be_seen(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def tells(ctx: Context) -> str:
        ctx.progress(1, update={"a": 1, "b": 1})
        ctx.progress({"done": 2, "of": 3}, update={"b": 2})
        ctx.log("halfway")
        ctx.log("careful", level="warning")
        rig.watch.note("told")
        await release.wait()
        ctx.log("the end")
        return "done"

    job_id = await rig.enqueue("tells")
    async with rig.working():
        await rig.watch.times("told", 1)
        while not (job := await rig.job(job_id)).last or not job.last.log:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0)
        assert progress(job) == {"done": 2, "of": 3}
        assert msgspec.json.decode(job.data) == {"a": 1, "b": 2}
        assert [line[1:] for line in lines(job)] == [["info", "halfway"], ["warning", "careful"]]
        release.set()
        [job] = await rig.ended(job_id)
    assert [line[2] for line in lines(job)] == ["halfway", "careful", "the end"]
    assert (job.state, job.result) == (State.SUCCEEDED, b'"done"')


async def test_what_is_told_right_before_the_end_is_written_before_the_outcome(rig: Rig) -> None:
    @rig.task
    async def hasty(ctx: Context) -> None:
        ctx.log("first")
        ctx.progress(100, update={"seen": True})

    job_id = await rig.enqueue("hasty")
    async with rig.working() as worker:
        [job] = await rig.ended(job_id)
        assert worker.counts["stale"] == 0
    assert (progress(job), msgspec.json.decode(job.data), [line[2] for line in lines(job)]) == (
        100,
        {"seen": True},
        ["first"],
    )


async def test_an_outcome_waits_for_a_report_that_is_still_being_written(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    source.slow_progress = asyncio.Event()
    go = asyncio.Event()

    @rig.task
    async def tells(ctx: Context) -> None:
        ctx.log("first")
        ctx.progress(50, update={"seen": True})
        rig.watch.note("told")
        await go.wait()
        ctx.log("last")

    job_id = await rig.enqueue("tells")
    async with rig.working() as worker:
        await rig.watch.times("told", 1)
        go.set()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not source.settles
        source.slow_progress.set()
        [job] = await rig.ended(job_id)
        assert worker.counts["stale"] == 0
    assert (progress(job), [line[2] for line in lines(job)]) == (50, ["first", "last"])


async def test_a_thread_tells_as_an_async_handler_does(rig: Rig) -> None:
    @rig.task
    def counts(ctx: Context) -> None:
        for n in range(500):
            ctx.progress(n)
            ctx.log(f"line {n}")

    job_id = await rig.enqueue("counts")
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert progress(job) == 499
    assert [line[2] for line in lines(job)] == [f"line {n}" for n in range(500)]


async def test_a_report_that_is_refused_cancels_the_handler(rig: Rig) -> None:
    lost = asyncio.Event()
    reasons: list[CancelReason | None] = []

    @rig.task
    async def slow(ctx: Context) -> None:
        rig.watch.note("running")
        await lost.wait()
        ctx.progress(50)
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)
            rig.watch.note("stopped")

    await rig.enqueue("slow")
    async with rig.working(queues={"default": 1}):
        await rig.watch.times("running", 1)
        rig.store.ledger.index.leases[1] = 0.0
        await rig.store.rescue()
        await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, instance="another"))
        lost.set()
        await rig.watch.times("stopped", 1)
    assert reasons == [CancelReason.LOST]


async def test_what_can_not_be_stored_raises_where_it_is_told(rig: Rig) -> None:
    raised: list[type] = []

    @rig.task
    async def odd(ctx: Context) -> None:
        for value, update in ((object(), None), ("x" * 100_000, None), (1, {"a": object()})):
            try:
                ctx.progress(value, update=update)
            except ContentError as error:
                raised.append(type(error))

    job_id = await rig.enqueue("odd")
    async with rig.working():
        await rig.ended(job_id)
    assert raised == [ContentError, TooLarge, ContentError]


async def test_log_lines_are_cleaned_and_bounded(rig: Rig) -> None:
    @rig.task
    async def chatty(ctx: Context) -> None:
        ctx.log("nul \x00 and \ud800")
        for n in range(2_000):
            ctx.log(f"line {n}")

    job_id = await rig.enqueue("chatty")
    async with rig.working():
        [job] = await rig.ended(job_id)
    told = lines(job)
    assert len(told) == 1_000
    assert told[0][2] == "nul ␀ and \\ud800"
    assert "left out" in str(told[-1][2])


async def test_what_an_abandoned_handler_tells_is_dropped(rig: Rig) -> None:
    release = threading.Event()

    @rig.task(limit=1.0, grace=1.0)
    def deaf(ctx: Context) -> None:
        release.wait(60)
        ctx.progress("late")
        ctx.log("late")

    job_id = await rig.enqueue("deaf", retry=RetryPolicy(max_attempts=1))
    async with rig.working(queues={"default": 8}) as worker:
        await rig.watch.times("started", 1)
        await asyncio.sleep(0)
        rig.advance(1.0)
        rig.advance(1.0)
        await rig.ended(job_id)
        release.set()
        await rig.watch.times("returned_late", 1)
        assert worker.counts["stale"] == 0
    job = await rig.job(job_id)
    assert (progress(job), lines(job)) == (None, [])
