"""Claiming is continuous: slots first, sleep only after an empty answer, wake as soon as there is work."""

import asyncio
from typing import Any

from holdfast.job.commands import ChangeQueue, Want
from holdfast.job.state import End, State
from holdfast.worker.context import Context
from holdfast.worker.endings import NO_HANDLER
from holdfast.worker.polls import PUSH_PATIENCE
from tests.features import feature
from tests.worker.cut import CutSource
from tests.worker.rig import Rig


@feature("T22", "TW6", "B40")
async def test_an_idle_worker_wakes_when_a_job_is_enqueued(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    async with rig.working():
        for _ in range(3):
            before = rig.watch.count("claimed")
            await rig.ended(await rig.enqueue("fine"))
            # One claim that finds the job, and empty ones after it and after its settle; never a loop.
            assert rig.watch.count("claimed") - before <= 3


@feature("G13", "GW10", "B40")
async def test_a_free_slot_is_filled_at_once_while_another_job_still_runs(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def slow() -> None:
        await release.wait()

    @rig.task
    async def quick() -> None: ...

    slow_id = await rig.enqueue("slow")
    quick_ids = [await rig.enqueue("quick") for _ in range(20)]
    async with rig.working(queues={"default": 2}):
        await rig.ended(*quick_ids)
        assert (await rig.job(slow_id)).state is State.RUNNING
        release.set()
        await rig.ended(slow_id)


@feature("T15", "G15")
async def test_no_more_is_claimed_than_there_are_slots_when_jobs_are_long(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await release.wait()

    ids = [await rig.enqueue("slow") for _ in range(10)]
    async with rig.working(queues={"default": 3}):
        await rig.watch.times("running", 3)
        rig.advance(1.0)
        states = [job.state for job in await rig.store.jobs(ids) if job]
        assert states.count(State.RUNNING) == 3
        release.set()
        await rig.ended(*ids)
    assert all(asked <= 3 for _, asked in rig.watch.of("claimed"))


async def test_short_jobs_are_claimed_ahead_and_all_of_them_run(rig: Rig) -> None:
    @rig.task
    async def flash() -> None:
        rig.clock.advance(0.000_1)  # each takes a tenth of a millisecond

    ids = [await rig.enqueue("flash") for _ in range(3_000)]
    async with rig.working(queues={"default": 2}):
        await rig.ended(*ids)
    assert max(asked for _, asked in rig.watch.of("claimed")) > 100


async def test_a_lane_that_was_full_is_asked_again_when_it_has_a_slot_although_the_others_are_idle(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await release.wait()

    ids = [await rig.enqueue("slow", queue="a") for _ in range(2)]
    async with rig.working(queues={"a": 1, "b": 5}):
        await rig.watch.times("running", 1)
        release.set()
        await rig.ended(*ids)


async def test_a_job_that_becomes_due_is_run_although_nobody_pushes(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    job_id = await rig.enqueue("fine", delay=100.0)
    async with rig.working():
        await rig.watch.times("claimed", 1)
        rig.advance(99.0)
        await asyncio.sleep(0)
        assert (await rig.job(job_id)).state is State.SCHEDULED
        rig.advance(2.0)
        await rig.ended(job_id)


async def test_claiming_goes_on_when_the_store_is_back(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)

    @rig.task
    async def fine() -> None: ...

    source.away = True
    job_id = await rig.enqueue("fine")
    async with rig.working():
        await rig.watch.times("error", 1)
        source.away = False
        while (await rig.job(job_id)).state is not State.SUCCEEDED:
            rig.advance(0.5)
            await asyncio.sleep(0)


async def test_a_job_without_a_handler_is_given_back_unspent_later_and_later(rig: Rig) -> None:
    job_id = await rig.enqueue("unknown")
    start = rig.clock.now()
    delays: list[float] = []
    async with rig.working():
        for turn in range(1, 8):
            await rig.watch.times("settled", turn)
            job = await rig.job(job_id)
            assert job.state is State.SCHEDULED
            delays.append(job.run_at - rig.clock.now())
            rig.advance(delays[-1])
    assert delays == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert rig.clock.now() > start
    assert (job.failures, job.releases) == (0, 0)
    assert {(attempt.end, attempt.reason) for attempt in job.attempts} == {(End.RELEASED, NO_HANDLER)}


async def test_a_job_without_a_handler_fails_after_a_day_and_is_not_retried(rig: Rig) -> None:
    job_id = await rig.enqueue("unknown")
    rig.clock.advance(86_401.0)
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.FAILED
    assert job.last is not None
    assert job.last.error_type == "no_handler"
    assert "unknown" in job.error


async def test_many_jobs_without_a_handler_do_not_stop_those_that_have_one(rig: Rig) -> None:
    @rig.task
    async def fine(ctx: Context) -> None: ...

    for _ in range(1_500):
        await rig.enqueue("unknown")
    job_id = await rig.enqueue("fine")
    async with rig.working(queues={"default": 1}):
        await rig.ended(job_id)


@feature("T12", "GW9")
async def test_serial_and_concurrent_queues_run_side_by_side(rig: Rig) -> None:
    running = {"one": 0, "many": 0}
    most = {"one": 0, "many": 0}
    order: list[int] = []

    @rig.task
    async def count(n: int, ctx: Context) -> None:
        running[ctx.queue] += 1
        most[ctx.queue] = max(most[ctx.queue], running[ctx.queue])
        if ctx.queue == "one":
            order.append(n)
        for _ in range(3):
            await asyncio.sleep(0)
        running[ctx.queue] -= 1

    ids = [await rig.enqueue("count", {"n": n}, queue=queue) for n in range(20) for queue in ("one", "many")]
    async with rig.working(queues={"one": "serial", "many": 4}):
        await rig.ended(*ids)
    assert most == {"one": 1, "many": 4}
    assert order == list(range(20))


async def test_scarce_slots_are_shared_by_weight(rig: Rig) -> None:
    order: list[str] = []

    @rig.task
    async def note(ctx: Context) -> None:
        order.append(ctx.queue)

    ids = [await rig.enqueue("note", queue=queue) for queue in ("a", "b") for _ in range(30)]
    async with rig.working(queues={"a": 5, "b": 5}, slots=1, weights={"a": 2}):
        await rig.ended(*ids)
    assert order[:30].count("a") == 20


async def test_strict_order_empties_the_first_queue_first(rig: Rig) -> None:
    order: list[str] = []

    @rig.task
    async def note(ctx: Context) -> None:
        order.append(ctx.queue)

    ids = [await rig.enqueue("note", queue=queue) for queue in ("b", "a") for _ in range(30)]
    async with rig.working(queues={"a": 5, "b": 5}, slots=1, strict=True):
        await rig.ended(*ids)
    assert order == ["a"] * 30 + ["b"] * 30


async def test_a_worker_asks_only_for_its_own_queues(rig: Rig) -> None:
    @rig.task
    async def fine() -> Any: ...

    mine, other = await rig.enqueue("fine", queue="mine"), await rig.enqueue("fine", queue="other")
    async with rig.working(queues={"mine": 1}):
        await rig.ended(mine)
    assert (await rig.job(other)).state is State.QUEUED


@feature("T22", "T30")
async def test_each_queue_is_looked_at_in_its_own_interval_and_at_once_when_something_comes(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    intervals = {"slow": 7, "quick": 2, "usual": 3}
    asked: list[tuple[str, ...]] = []
    claim = rig.store.claim

    async def spied(want: Want) -> Any:
        asked.append(tuple(one.queue for one in want.queues))
        rig.watch.note("asked")
        return await claim(want)

    rig.store.claim = spied  # type: ignore[method-assign]
    for name, interval in (("slow", 7.0), ("quick", 2.0), ("usual", None)):
        await rig.store.change_queue(ChangeQueue(name=name, create=True, poll_interval=interval))
    async with rig.working(queues={"slow": 1, "quick": 1, "usual": 1}, poll=3.0 / PUSH_PATIENCE):
        await rig.watch.times("asked", 1)
        for second in range(1, 15):
            before = len(asked)
            rig.advance(1.0)
            for _ in range(10):  # the claimer, its wait and its timer each take a turn of the loop
                await asyncio.sleep(0)
            due = {name for name, interval in intervals.items() if second % interval == 0}
            assert [set(names) for names in asked[before:]] == ([due] if due else [])
        await rig.ended(await rig.enqueue("fine", queue="slow"))
        assert set(asked[-1]) >= {"quick", "usual"}
