"""Outcomes reach the store: in batches, through outages, never twice; and a late one is refused and seen."""

import asyncio

from holdfast.batch import ITEMS_MAX
from holdfast.errors import StoreUnavailable, TooLarge
from holdfast.job.commands import QueueWant, Want
from holdfast.job.model import NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.worker.context import Context
from tests.features import feature
from tests.worker.cut import CutSource
from tests.worker.rig import LEASE, PATIENCE, Rig


async def let_time_pass(rig: Rig, job_id: str, state: State) -> None:
    while (await rig.job(job_id)).state is not state:
        rig.advance(0.5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_jobs_that_end_together_are_settled_together(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    go = asyncio.Event()

    @rig.task
    async def together() -> None:
        rig.watch.note("running")
        await go.wait()

    ids = [await rig.enqueue("together") for _ in range(50)]
    async with rig.working(queues={"default": 50}):
        await rig.watch.times("running", 50)
        go.set()
        await rig.ended(*ids)
    assert [len(batch) for batch in source.settles] == [50]


async def test_an_outcome_is_settled_when_the_store_is_back(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    go = asyncio.Event()

    @rig.task
    async def fine() -> str:
        rig.watch.note("running")
        await go.wait()
        return "kept"

    job_id = await rig.enqueue("fine")
    async with rig.working():
        await rig.watch.times("running", 1)
        source.away = True
        go.set()
        await rig.watch.times("error", 1)
        source.away = False
        await let_time_pass(rig, job_id, State.SUCCEEDED)
    job = await rig.job(job_id)
    assert (job.result, job.attempt) == (b'"kept"', 1)


async def test_an_outcome_whose_answer_was_lost_is_settled_once(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    source.lose_answer_of_next_settle = True

    @rig.task
    async def fine() -> str:
        return "once"

    job_id = await rig.enqueue("fine")
    async with rig.working():
        [job] = await rig.ended(job_id)
        await let_time_pass(rig, job_id, State.SUCCEEDED)
        while not rig.watch.of("settled"):
            rig.advance(0.5)
            await asyncio.sleep(0)
    assert rig.watch.of("settled") == [(job_id, "Succeeded", "repeated")]
    assert job.attempt == 1


async def test_an_outcome_that_can_not_be_stored_until_its_lease_ends_is_given_up_and_told(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    go = asyncio.Event()

    @rig.task
    async def fine() -> None:
        rig.watch.note("running")
        await go.wait()

    job_id = await rig.enqueue("fine")
    async with rig.working():
        await rig.watch.times("running", 1)
        source.away = True
        go.set()
        while not rig.watch.of("unsettled"):
            rig.advance(1.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert rig.clock.monotonic() <= LEASE + 1
        source.away = False
        while rig.watch.count("running") < 2:  # rescued, or released as unknown: it comes back
            await rig.pass_time(1.0)
    job = await rig.job(job_id)
    assert job.attempts[0].end in (End.LOST, End.RELEASED)
    assert any(isinstance(error, StoreUnavailable) for _, _, error in rig.errors)


@feature("GW3", "TW2")
async def test_a_stale_outcome_is_refused_counted_and_told_and_nothing_is_raised(rig: Rig) -> None:
    go = asyncio.Event()

    @rig.task
    async def slow(ctx: Context) -> int:
        rig.watch.note("running")
        if ctx.attempt == 1:
            await go.wait()
        return ctx.attempt

    job_id = await rig.enqueue("slow")
    async with rig.working(queues={"default": 1}) as worker:
        await rig.watch.times("running", 1)
        rig.store.ledger.index.leases[1] = 0.0
        await rig.store.rescue()
        await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, instance="another"))
        go.set()
        await rig.watch.times("settled", 1)
        assert worker.counts["stale"] == 1
        assert worker.busy == 0
    assert rig.watch.of("settled") == [(job_id, "Succeeded", "stale")]
    job = await rig.job(job_id)
    assert (job.state, job.result) == (State.RUNNING, None)
    assert job.attempts[0].end is End.STALE


async def test_content_that_the_store_refuses_fails_this_attempt_and_no_other(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    go = asyncio.Event()

    @rig.task
    async def result(n: int) -> int:
        rig.watch.note("running")
        await go.wait()
        return n

    ids = [await rig.enqueue("result", {"n": n}, retry=RetryPolicy(max_attempts=1)) for n in range(4)]
    source.refuse[ids[2]] = TooLarge("result", 9, 1, "bytes", "Store it elsewhere.")
    async with rig.working():
        await rig.watch.times("running", 4)
        go.set()
        jobs = await rig.ended(*ids)
    assert [job.state.value for job in jobs] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert "result" in jobs[2].error


async def test_the_slot_of_a_serial_queue_is_free_when_the_store_has_taken_the_outcome(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    go = asyncio.Event()

    @rig.task
    async def fine() -> None:
        rig.watch.note("running")
        await go.wait()

    first, second = await rig.enqueue("fine"), await rig.enqueue("fine")
    async with rig.working(queues={"default": "serial"}) as worker:
        await rig.watch.times("running", 1)
        source.away = True
        go.set()
        await rig.watch.times("error", 1)
        assert worker.busy == 1
        source.away = False
        await let_time_pass(rig, second, State.SUCCEEDED)
    assert (await rig.job(first)).state is State.SUCCEEDED


async def test_when_too_many_outcomes_wait_for_the_store_nothing_more_is_claimed(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    source.settle_away = True
    count = ITEMS_MAX + 3_000
    new = [NewJob(id=str(n), task="flash") for n in range(count)]
    for start in range(0, count, 1_000):
        await rig.store.enqueue(new[start : start + 1_000])

    @rig.task
    async def flash() -> None: ...

    async with rig.working(queues={"default": 500}):
        for _ in range(2_000):
            await asyncio.sleep(0)
        claimed = sum(found for found, _ in rig.watch.of("claimed"))
        assert ITEMS_MAX <= claimed <= ITEMS_MAX + 2_000
        source.settle_away = False
        async with asyncio.timeout(PATIENCE):
            while rig.watch.count("settled") < count:
                rig.advance(0.5)
                await asyncio.sleep(0)
