"""work_once: one pass, and what it did to each job."""

import asyncio

from holdfast.job.commands import Canceled, QueueWant, Snoozed, Want
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.worker.context import Context
from holdfast.worker.once import Failure
from tests.features import feature
from tests.worker.rig import Rig

LATER = RetryPolicy(max_attempts=5, base=60.0)


async def test_nothing_to_do_is_an_empty_pass(rig: Rig) -> None:
    found = await rig.once()
    assert (found.empty, found.total) == (True, 0)


@feature("G27", "G14", "T27", "T30", "GW13", "GW18")
async def test_a_pass_says_what_was_stored_of_every_attempt(rig: Rig) -> None:
    @rig.task
    async def done() -> None: ...

    @rig.task
    async def fail() -> None:
        raise ValueError("oh no")

    @rig.task
    async def snooze() -> object:
        return Snoozed(60.0)

    @rig.task
    async def cancel() -> object:
        return Canceled("why")

    names = ("done", "fail", "snooze", "cancel", "unknown")
    ids = {name: await rig.enqueue(name, retry=LATER) for name in names}
    final = await rig.enqueue("fail", retry=RetryPolicy(max_attempts=1))
    found = await rig.once()
    assert found.done == (ids["done"],)
    assert found.failed == (Failure(ids["fail"], "oh no", final=False), Failure(final, "oh no", final=True))
    assert (found.snoozed, found.canceled, found.released) == ((ids["snooze"],), (ids["cancel"],), (ids["unknown"],))
    assert (found.total, found.empty) == (6, False)


async def test_a_pass_takes_no_more_than_its_limit(rig: Rig) -> None:
    @rig.task
    async def done() -> None: ...

    ids = [await rig.enqueue("done") for _ in range(10)]
    assert (await rig.once(limit=3)).done == tuple(ids[:3])
    assert (await rig.once(limit=100)).total == 7
    assert (await rig.once(limit=100)).empty


async def test_a_pass_runs_no_more_at_the_same_time_than_it_may(rig: Rig) -> None:
    running = most = 0

    @rig.task
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    for queue in ("a", "b"):
        for _ in range(10):
            await rig.enqueue("count", queue=queue)
    found = await rig.once(concurrency=4, queues={"a": 10, "b": 10})
    assert (found.total, most) == (20, 4)


async def test_a_pass_waits_for_long_jobs_without_a_limit_of_time(rig: Rig) -> None:
    go = asyncio.Event()

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await go.wait()

    job_id = await rig.enqueue("slow")
    running = asyncio.ensure_future(rig.once())
    await rig.watch.times("running", 1)
    for _ in range(12):
        before = rig.watch.count("beaten")
        rig.advance(10.0)
        await rig.watch.times("beaten", before + 1)
    assert not running.done()
    go.set()
    assert (await running).done == (job_id,)


async def test_a_stale_outcome_is_reported_as_lost_and_not_as_done(rig: Rig) -> None:
    @rig.task
    async def slow(ctx: Context) -> None:
        rig.store.ledger.index.leases[1] = 0.0
        await rig.store.rescue()
        await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, instance="another"))

    job_id = await rig.enqueue("slow")
    found = await rig.once(limit=1)
    assert (found.done, found.lost) == ((), (job_id,))
    assert (await rig.job(job_id)).state is State.RUNNING


async def test_a_loop_of_passes_ends_when_nothing_is_left(rig: Rig) -> None:
    @rig.task
    async def chain(n: int) -> None:
        if n:
            await rig.enqueue("chain", {"n": n - 1}, delay=10.0)

    await rig.enqueue("chain", {"n": 3})
    passes = 0
    while not (await rig.once()).empty:
        passes += 1
        rig.clock.advance(11.0)
    assert passes == 4
