"""Handlers that are asked to stop: by a person, by their time limit, by the worker's drain; and those that will not."""

import asyncio
import threading

from holdfast.job.commands import Cancel, Order, Selection
from holdfast.job.model import InstanceState
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.worker.context import CancelReason, Context
from tests.features import feature
from tests.worker.rig import LEASE, Rig

ONE_TRY = RetryPolicy(max_attempts=1)
BEAT = LEASE / 3


async def ask_to_cancel(rig: Rig, job_id: str) -> None:
    await rig.store.control(Order(action=Cancel(why="changed my mind"), selection=Selection(ids=(job_id,)), who="ann"))
    rig.advance(BEAT + 0.1)


@feature("T7")
async def test_a_cancel_asked_by_a_person_stops_the_handler_at_the_next_beat(rig: Rig) -> None:
    reasons: list[CancelReason | None] = []

    @rig.task
    async def sleepy(ctx: Context) -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)

    job_id = await rig.enqueue("sleepy")
    async with rig.working():
        await rig.watch.times("running", 1)
        await ask_to_cancel(rig, job_id)
        [job] = await rig.ended(job_id)
    assert (job.state, reasons) == (State.CANCELED, [CancelReason.ASKED])
    assert not rig.errors  # a cancel is no failure


async def test_a_store_that_pushes_cancels_stops_the_handler_without_waiting_for_a_beat(rig: Rig) -> None:
    @rig.task
    async def sleepy() -> None:
        rig.watch.note("running")
        await asyncio.Event().wait()

    job_id = await rig.enqueue("sleepy")
    async with rig.working():
        await rig.watch.times("running", 1)
        # The beat that tells of the worker's new state must be over: it would bring the cancel as well.
        seen = InstanceState.STARTING
        while seen is not InstanceState.READY:
            await asyncio.sleep(0)
            seen = (await rig.store.instances())[0].state
        order = Order(action=Cancel(why="changed my mind"), selection=Selection(ids=(job_id,)), who="ann")
        await rig.store.control(order)  # the clock stands: no beat is due
        [job] = await rig.ended(job_id)
    assert job.state is State.CANCELED


async def test_work_that_was_done_stands_although_a_cancel_was_asked(rig: Rig) -> None:
    @rig.task
    async def stubborn(ctx: Context) -> str:
        rig.watch.note("running")
        await_ = asyncio.ensure_future(asyncio.Event().wait())
        try:
            await await_
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    job_id = await rig.enqueue("stubborn")
    async with rig.working():
        await rig.watch.times("running", 1)
        await ask_to_cancel(rig, job_id)
        [job] = await rig.ended(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, b'"done all the same"')


async def test_a_thread_is_asked_to_stop_and_check_raises(rig: Rig) -> None:
    told = threading.Event()

    @rig.task
    def loops(ctx: Context) -> None:
        rig.watch.note("running")
        told.wait(60)
        assert ctx.cancelled
        ctx.check()

    job_id = await rig.enqueue("loops")
    async with rig.working():
        await rig.watch.times("running", 1)
        beats = rig.watch.count("beaten")
        await ask_to_cancel(rig, job_id)
        await rig.watch.times("beaten", beats + 1)
        told.set()
        [job] = await rig.ended(job_id)
    assert job.state is State.CANCELED


async def test_cancel_wait_tells_a_helper_of_the_handler_why(rig: Rig) -> None:
    heard: list[CancelReason] = []

    async def helper(ctx: Context) -> None:
        heard.append(await ctx.cancel_wait())

    @rig.task
    async def with_helper(ctx: Context) -> None:
        listening = asyncio.ensure_future(helper(ctx))
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            await listening

    job_id = await rig.enqueue("with_helper")
    async with rig.working():
        await rig.watch.times("running", 1)
        await ask_to_cancel(rig, job_id)
        await rig.ended(job_id)
    assert heard == [CancelReason.ASKED]


@feature("BW24")
async def test_an_attempt_past_its_limit_is_cancelled_and_ends_as_timed_out(rig: Rig) -> None:
    left: list[float | None] = []

    @rig.task(limit=7.0)
    async def slow(ctx: Context) -> None:
        left.append(ctx.time_left)
        rig.watch.note("running")
        await asyncio.Event().wait()

    job_id = await rig.enqueue("slow", retry=ONE_TRY)
    async with rig.working():
        await rig.watch.times("running", 1)
        rig.advance(6.9)
        await asyncio.sleep(0)
        assert (await rig.job(job_id)).state is State.RUNNING
        rig.advance(0.2)
        [job] = await rig.ended(job_id)
    assert left == [7.0]
    assert job.state is State.FAILED
    assert job.last is not None
    assert (job.last.end, round(job.last.duration or 0.0, 3)) == (End.TIMED_OUT, 7.1)
    assert "within 7 s" in job.error
    [(_, failed, error)] = rig.errors
    assert (failed, type(error)) == (job_id, TimeoutError)


async def test_the_jobs_own_limit_comes_before_the_tasks(rig: Rig) -> None:
    @rig.task(limit=1_000.0)
    async def slow() -> None:
        rig.watch.note("running")
        await asyncio.Event().wait()

    job_id = await rig.enqueue("slow", retry=ONE_TRY, timeout=2.0)
    async with rig.working():
        await rig.watch.times("running", 1)
        rig.advance(2.1)
        [job] = await rig.ended(job_id)
    assert "within 2 s" in job.error


async def test_a_handler_that_swallows_its_cancel_is_abandoned_and_its_late_answer_is_refused(rig: Rig) -> None:
    release = rig.gate()

    @rig.task(limit=1.0, grace=2.0)
    async def swallows() -> str:
        rig.watch.note("running")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                rig.watch.note("swallowed")
        return "too late"

    job_id = await rig.enqueue("swallows", retry=ONE_TRY)
    async with rig.working(queues={"default": 8}) as worker:
        await rig.watch.times("running", 1)
        rig.advance(1.0)
        await rig.watch.times("swallowed", 1)
        rig.advance(2.0)
        [job] = await rig.ended(job_id)
        assert job.last is not None
        assert job.last.end is End.TIMED_OUT
        assert (worker.zombies, worker.busy) == (1, 1)  # its slot stays taken
        release.set()
        await rig.watch.times("returned_late", 1)
        assert (worker.zombies, worker.busy) == (0, 0)
        assert worker.counts["returned_late"] == 1
    assert (await rig.job(job_id)).result is None
    assert rig.watch.count("settled") == 1


async def test_a_thread_that_does_not_stop_is_abandoned(rig: Rig) -> None:
    release = threading.Event()

    @rig.task(limit=1.0, grace=2.0)
    def deaf() -> str:
        release.wait(60)
        return "too late"

    job_id = await rig.enqueue("deaf", retry=ONE_TRY)
    async with rig.working(queues={"default": 8}) as worker:
        await rig.watch.times("started", 1)
        await asyncio.sleep(0)
        rig.advance(1.0)
        rig.advance(2.0)
        [job] = await rig.ended(job_id)
        assert job.last is not None
        assert (job.last.end, worker.zombies) == (End.TIMED_OUT, 1)
        release.set()
        await rig.watch.times("returned_late", 1)
    assert (await rig.job(job_id)).state is State.FAILED


async def test_zombies_above_a_quarter_of_the_slots_drain_the_worker_with_exit_code_75(rig: Rig) -> None:
    release = rig.gate()

    @rig.task(limit=1.0, grace=1.0)
    async def swallows() -> None:
        rig.watch.note("running")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    ids = [await rig.enqueue("swallows", retry=ONE_TRY) for _ in range(3)]
    worker = rig.worker(queues={"default": 8})
    running = asyncio.ensure_future(worker.run())
    await rig.watch.times("running", 3)
    rig.advance(1.0)
    await asyncio.sleep(0)
    rig.advance(1.0)
    assert await running == 75
    assert [job.state for job in await rig.store.jobs(ids) if job] == [State.FAILED] * 3
    release.set()


async def test_a_quarter_of_the_slots_may_be_zombies(rig: Rig) -> None:
    release = rig.gate()

    @rig.task(limit=1.0, grace=1.0)
    async def swallows() -> None:
        rig.watch.note("running")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    @rig.task
    async def fine() -> None: ...

    for _ in range(2):
        await rig.enqueue("swallows", retry=ONE_TRY)
    async with rig.working(queues={"default": 8}) as worker:
        await rig.watch.times("running", 2)
        rig.advance(1.0)
        await asyncio.sleep(0)
        rig.advance(1.0)
        await rig.watch.times("abandoned", 2)
        await rig.ended(await rig.enqueue("fine"))
        assert worker.exit_code == 0
        release.set()


async def test_a_handler_that_cancels_itself_has_failed(rig: Rig) -> None:
    @rig.task
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    job_id = await rig.enqueue("cancels_itself", retry=ONE_TRY)
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert (job.state, job.last and job.last.end) == (State.FAILED, End.FAILED)


async def test_a_job_that_is_cancelled_before_its_handler_has_begun_is_given_its_end(rig: Rig) -> None:
    ran: list[int] = []

    @rig.task
    async def never() -> None:
        ran.append(1)

    job_id = await rig.enqueue("never")
    worker = rig.worker()
    async with worker:
        await rig.watch.times("started", 1)
        # Claimed and started, but its task has not had its turn yet.
        worker.stop()
        worker.stop()
    job = await rig.job(job_id)
    assert job.state in (State.QUEUED, State.SUCCEEDED)
    assert (job.state is State.QUEUED) == (not ran)
