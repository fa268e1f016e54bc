"""Stopping in three steps; what is unfinished is given back and costs the job nothing."""

import asyncio
import threading

import pytest

from holdfast.job.state import End, State
from holdfast.worker.context import CancelReason, Context
from tests.features import feature
from tests.worker.cut import CutSource
from tests.worker.rig import PATIENCE, Rig


async def stopped(running: "asyncio.Task[int]") -> int:
    async with asyncio.timeout(PATIENCE):
        return await running


@feature("T20", "T23", "TW10")
async def test_the_first_step_claims_nothing_more_and_waits_for_the_handlers(rig: Rig) -> None:
    go = asyncio.Event()

    @rig.task
    async def slow(ctx: Context) -> str:
        rig.watch.note("running")
        await go.wait()
        assert not ctx.cancelled
        return "finished in peace"

    ids = [await rig.enqueue("slow") for _ in range(3)]
    worker = rig.worker(queues={"default": 2})
    running = asyncio.create_task(worker.run())
    await rig.watch.times("running", 2)
    worker.stop()
    await rig.pass_time(29.0)
    go.set()
    assert await stopped(running) == 0
    states = [job.state for job in await rig.store.jobs(ids) if job]
    assert states == [State.SUCCEEDED, State.SUCCEEDED, State.QUEUED]
    assert rig.watch.count("running") == 2


async def test_when_the_grace_is_over_handlers_are_cancelled_and_their_jobs_released(rig: Rig) -> None:
    reasons: list[CancelReason | None] = []

    @rig.task
    async def slow(ctx: Context) -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)

    job_id = await rig.enqueue("slow")
    worker = rig.worker(grace=10.0)
    running = asyncio.create_task(worker.run())
    await rig.watch.times("running", 1)
    worker.stop()
    await rig.watch.times("moved", 2)
    rig.advance(10.0)
    assert await stopped(running) == 0
    job = await rig.job(job_id)
    assert reasons == [CancelReason.DRAIN]
    assert (job.state, job.failures, job.releases) == (State.QUEUED, 0, 1)
    assert job.last is not None
    assert job.last.end is End.RELEASED
    assert not rig.errors


async def test_the_second_step_cancels_at_once(rig: Rig) -> None:
    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("in its haste it fails") from None

    job_id = await rig.enqueue("slow")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("running", 1)
    worker.stop()
    worker.stop()
    assert await stopped(running) == 0
    job = await rig.job(job_id)
    assert (job.state, job.failures) == (State.QUEUED, 0)


async def test_a_handler_that_finishes_in_spite_of_the_cancel_has_done_its_work(rig: Rig) -> None:
    @rig.task
    async def finishes() -> str:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved at the last moment"
        return "never"

    job_id = await rig.enqueue("finishes")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("running", 1)
    worker.stop()
    worker.stop()
    await stopped(running)
    assert (await rig.job(job_id)).result == b'"saved at the last moment"'


async def test_a_handler_that_does_not_stop_is_abandoned_and_its_job_released(rig: Rig) -> None:
    release = rig.gate()

    @rig.task(grace=3.0)
    async def swallows() -> None:
        while not release.is_set():
            try:
                rig.watch.note("waiting")
                await release.wait()
            except asyncio.CancelledError:
                continue

    job_id = await rig.enqueue("swallows")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("waiting", 1)
    worker.stop()
    worker.stop()
    await rig.watch.times("waiting", 2)
    rig.advance(3.0)
    await stopped(running)
    assert worker.zombies == 1
    assert (await rig.job(job_id)).state is State.QUEUED
    release.set()
    await rig.watch.times("returned_late", 1)


async def test_a_thread_is_waited_for_and_asked_to_stop(rig: Rig) -> None:
    asked = threading.Event()

    @rig.task
    def polls(ctx: Context) -> None:
        rig.watch.note("running")
        asked.wait(60)
        ctx.check()

    job_id = await rig.enqueue("polls")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("started", 1)
    await asyncio.sleep(0)
    worker.stop()
    worker.stop()
    await rig.watch.times("moved", 2)
    await asyncio.sleep(0)
    asked.set()
    await stopped(running)
    assert (await rig.job(job_id)).state is State.QUEUED


async def test_the_third_step_waits_for_nothing(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    release = rig.gate()

    @rig.task
    async def swallows() -> None:
        while not release.is_set():
            try:
                rig.watch.note("waiting")
                await release.wait()
            except asyncio.CancelledError:
                continue

    job_id = await rig.enqueue("swallows")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("waiting", 1)
    source.away = True
    for _ in range(3):
        worker.stop()
    await stopped(running)
    assert (await rig.job(job_id)).state is State.RUNNING  # its lease will end
    release.set()


async def test_claimed_jobs_that_were_not_started_go_back_free_of_charge(rig: Rig) -> None:
    flood = asyncio.Event()

    @rig.task
    async def flash(n: int) -> None:
        rig.clock.advance(0.000_1)
        if n >= 2_000:
            rig.watch.note("stuck")
            await flood.wait()

    ids = [await rig.enqueue("flash", {"n": n}) for n in range(2_300)]
    worker = rig.worker(queues={"default": 2})
    running = asyncio.create_task(worker.run())
    await rig.watch.times("stuck", 2)
    states = [job.state for job in await rig.store.jobs(ids) if job]
    assert states.count(State.RUNNING) > 2, "some must be claimed ahead, or this shows nothing"
    worker.stop()
    await rig.watch.times("moved", 2)
    flood.set()
    await stopped(running)
    jobs = [job for job in await rig.store.jobs(ids) if job]
    assert {job.state for job in jobs} == {State.SUCCEEDED, State.QUEUED}
    assert {job.releases for job in jobs} == {0}
    back = [job for job in jobs if job.attempt]
    assert any(job.last and job.last.end is End.RELEASED for job in back)


async def test_an_embedded_worker_drains_at_the_end_of_its_block(rig: Rig) -> None:
    @rig.task
    async def fine() -> None:
        await asyncio.sleep(0)

    async with rig.worker():
        job_id = await rig.enqueue("fine")
        await rig.watch.times("started", 1)
    assert (await rig.job(job_id)).state is State.SUCCEEDED


async def test_a_block_that_is_cancelled_cancels_its_handlers_and_releases_their_jobs(rig: Rig) -> None:
    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await asyncio.Event().wait()

    async def embedded() -> None:
        async with rig.worker():
            await asyncio.Event().wait()

    job_id = await rig.enqueue("slow")
    running = asyncio.create_task(embedded())
    await rig.watch.times("running", 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await rig.job(job_id)).state is State.QUEUED


async def test_when_the_whole_loop_is_cancelled_jobs_are_released_and_not_failed(rig: Rig) -> None:
    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await asyncio.Event().wait()

    job_id = await rig.enqueue("slow")
    running = asyncio.create_task(rig.worker().run())
    await rig.watch.times("running", 1)
    me = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not me:
            task.cancel()  # what asyncio.run does at its end
    with pytest.raises(asyncio.CancelledError):
        await running
    job = await rig.job(job_id)
    assert (job.state, job.failures) == (State.QUEUED, 0)


async def test_a_claim_that_is_out_when_the_stop_comes_is_waited_for_and_given_back(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    source.slow_claim = rig.gate()
    ran: list[str] = []

    @rig.task
    async def never(ctx: Context) -> None:
        ran.append(ctx.id)

    job_id = await rig.enqueue("never")
    worker = rig.worker()
    running = asyncio.create_task(worker.run())
    await rig.watch.times("beaten", 2)
    while (await rig.job(job_id)).state is not State.RUNNING:  # noqa: ASYNC110 - the answer is held back
        await asyncio.sleep(0)
    worker.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not running.done()
    source.slow_claim.set()
    assert await stopped(running) == 0
    job = await rig.job(job_id)
    assert (ran, job.state, job.releases) == ([], State.QUEUED, 0)
