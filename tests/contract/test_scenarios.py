"""Acceptance scenarios that name the worker's or the app's part, on every store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from holdfast import Holdfast
from holdfast.errors import BadTime, UnknownQueue
from holdfast.job.commands import Cancel, ChangeQueue, Ending, Failed, Order, Released, Selection, Snoozed, Succeeded
from holdfast.job.model import Job
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import ERROR, StoreHarness
from holdfast.worker.context import Context
from tests.features import feature
from tests.worker.rig import LEASE, PATIENCE, Rig, Watch

BEAT = LEASE / 3


@pytest.fixture
async def h(store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
    """A fresh store of each kind."""
    harness = store_factory()
    await harness.open()
    yield harness
    await harness.close()


@pytest.fixture
async def rig(h: StoreHarness) -> AsyncIterator[Rig]:
    """Workers on it."""
    rig = Rig(h.store, h.clock)
    yield rig
    await rig.open_gates()


@feature("G8", "G10", "A2")
async def test_a02_a_handler_postpones_three_times_with_a_counter_and_finishes_with_an_update(rig: Rig) -> None:
    counts: list[int] = []

    @rig.task
    async def postpones(ctx: Context) -> object:
        before = msgspec.json.decode(ctx.job.data)["count"] if ctx.job.data else 0
        counts.append(before + 1)
        if before < 3:
            return Snoozed(60.0, msgspec.json.encode({"count": before + 1}), "not yet")
        return Succeeded(b'"done"', b'{"receipt":"r-1"}')

    job_id = await rig.enqueue("postpones")
    async with rig.working():
        for turn in (1, 2, 3):
            await rig.watch.times("settled", turn)
            assert (await rig.job(job_id)).state is State.SCHEDULED
            rig.advance(60.0)
        [job] = await rig.ended(job_id)
    assert counts == [1, 2, 3, 4]
    assert (job.state, job.failures, job.snoozes) == (State.SUCCEEDED, 0, 3)
    assert msgspec.json.decode(job.data) == {"count": 3, "receipt": "r-1"}


@feature("GW3", "TW2", "BW6", "T19", "A6")
async def test_a06_a_frozen_worker_wakes_after_another_has_finished_and_its_report_is_refused(rig: Rig) -> None:
    thaw, second = asyncio.Event(), Watch()
    frozen = Rig(rig.store)  # its clock stands still, so it neither beats nor notices
    frozen.functions = rig.functions

    @rig.task
    async def work(ctx: Context) -> str:
        rig.watch.note("running")
        if ctx.attempt == 1:
            await thaw.wait()
        return f"by attempt {ctx.attempt}"

    job_id = await rig.enqueue("work")
    async with frozen.working(queues={"default": 1}) as one:
        await rig.watch.times("running", 1)
        await frozen.watch.times("beaten", 2)  # at its start and when it was ready: a late one would keep the lease
        rig.advance(LEASE + 1.0)
        await rig.store.rescue()  # unless the frozen one's first look came as late as this
        assert (await rig.job(job_id)).state is State.QUEUED
        async with rig.working(watch=second):
            [job] = await rig.ended(job_id)
            assert job.result == b'"by attempt 2"'
        thaw.set()
        await frozen.watch.times("settled", 1)
        assert one.counts["stale"] == 1
    job = await rig.job(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, b'"by attempt 2"')
    assert [attempt.end for attempt in job.attempts] == [End.STALE, End.SUCCEEDED]


@feature("T12", "T13", "T15", "A8")
async def test_a08_serial_queue_never_overlaps(rig: Rig) -> None:
    running = most = 0
    order: list[int] = []

    @rig.task
    async def count(n: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(n)
        for _ in range(n % 4):
            await asyncio.sleep(0)
        running -= 1

    await rig.store.change_queue(ChangeQueue(name="line", mode="serial", create=True))
    ids = [await rig.enqueue("count", {"n": n}, queue="line") for n in range(40)]
    async with rig.working(queues={"line": "serial"}), rig.working(queues={"line": 10}):
        await rig.ended(*ids)
    assert most == 1
    assert order == list(range(40))


@feature("T13", "T15", "A8")
async def test_a08_concurrent_queue_reaches_its_limit_and_never_exceeds_it(rig: Rig) -> None:
    running = most = 0
    full = asyncio.Event()

    @rig.task
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            full.set()
        await full.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    ids = [await rig.enqueue("count") for _ in range(40)]
    async with rig.working(queues={"default": 4}):
        await rig.ended(*ids)
    assert most == 4


@feature("T20", "TW10", "TW13", "A9")
async def test_a09_stop_during_work_waits_cancels_after_grace_and_queues_again_without_a_lost_attempt(rig: Rig) -> None:
    @rig.task
    async def work(seconds: int) -> str:
        rig.watch.note("running")
        await rig.timing.sleep(seconds)
        return "done"

    short, long = await rig.enqueue("work", {"seconds": 5}), await rig.enqueue("work", {"seconds": 500})
    worker = rig.worker(grace=30.0)
    running = asyncio.create_task(worker.run())
    await rig.watch.times("running", 2)
    worker.stop()
    await rig.watch.times("moved", 2)
    await rig.pass_time(5.0)
    await rig.ended(short)
    assert (await rig.job(long)).state is State.RUNNING
    await rig.pass_time(24.0)
    rig.advance(1.0)  # the end of the grace, which a last beat may or may not come before
    assert await running == 0
    job = await rig.job(long)
    assert (job.state, job.failures, [attempt.end for attempt in job.attempts]) == (State.QUEUED, 0, [End.RELEASED])
    async with rig.working():
        await rig.watch.times("running", 3)
        await rig.pass_time(501.0)
        [job] = await rig.ended(long)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


@feature("TW1", "GW4", "A10")
async def test_a10_a_healthy_five_minute_job_is_not_failed_by_a_one_minute_rescue(rig: Rig) -> None:
    go = asyncio.Event()

    @rig.task
    async def long() -> str:
        rig.watch.note("running")
        await go.wait()
        return "healthy"

    await rig.store.change_queue(ChangeQueue(name="default", rescue_after=60.0, create=True))
    job_id = await rig.enqueue("long")
    async with rig.working():
        await rig.watch.times("running", 1)
        start = rig.clock.now()
        while rig.clock.now() < start + 300.0:
            before = rig.watch.count("beaten")
            rig.advance(BEAT)
            await rig.watch.times("beaten", before + 1)
            assert (await rig.store.rescue()).lost == 0
        go.set()
        [job] = await rig.ended(job_id)
    assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, b'"healthy"', 1)


@feature("TW9", "A11", "T8", "T10")
async def test_a11_numbers_lists_and_nested_objects_arrive_unchanged(h: StoreHarness) -> None:
    app, seen = Holdfast(), []
    app.lend(h.store)

    @app.task("echo")
    async def echo(whole: int, real: float, flag: bool, many: list[int], nested: dict[str, Any], text: str) -> Any:
        seen.append((whole, real, flag, many, nested, text))
        return {"got": [whole, real, flag, many, nested, text]}

    given = (2**63 - 1, 0.1 + 0.2, True, [1, -2, 3], {"a": [{"b": 0.5, "c": None}], "ü": {"1": []}}, "größer 😀")
    handle = await echo.enqueue(*given)
    await app.work_once()
    assert seen == [given]
    assert list(map(type, seen[0])) == list(map(type, given))
    assert await handle.result(60) == {"got": list(given)}
    await app.close()


@feature("T21", "TW11", "A12")
async def test_a12_the_error_callback_sees_every_failed_attempt_in_every_mode(rig: Rig) -> None:
    async def bad() -> None:
        raise ValueError("async")

    def bad_thread() -> None:
        raise ValueError("thread")

    @rig.task(limit=1.0)
    async def bad_slow() -> None:
        rig.watch.note("running")
        await asyncio.Event().wait()

    rig.task(bad)
    rig.task(bad_thread)
    twice = RetryPolicy(max_attempts=2, base=0.0, cap=0.0)
    for queue in ("one", "many"):
        for name in ("bad", "bad_thread", "bad_slow"):
            await rig.enqueue(name, job_id=f"{name} in {queue}", queue=queue, retry=twice)
    ids = [f"{name} in {queue}" for queue in ("one", "many") for name in ("bad", "bad_thread", "bad_slow")]
    async with rig.working(queues={"one": "serial", "many": 5}):
        for turn in (1, 2, 3, 4):
            await rig.watch.times("running", turn)
            rig.advance(1.1)
        await rig.ended(*ids)
    seen: dict[str | None, int] = {}
    for queue, job_id, _ in rig.errors:
        assert job_id is not None
        assert job_id.endswith(queue)
        seen[job_id] = seen.get(job_id, 0) + 1
    assert seen == dict.fromkeys(ids, 2)

    rig.errors.clear()
    await rig.enqueue("bad", job_id="in a pass", retry=RetryPolicy(max_attempts=1))
    await rig.once()
    assert [(queue, job_id) for queue, job_id, _ in rig.errors] == [("default", "in a pass")]


async def cancel(rig: Rig, job_id: str) -> Any:
    return await rig.store.control(
        Order(action=Cancel(why="not wanted"), selection=Selection(ids=(job_id,)), who="ann")
    )


@feature("TW14", "A30")
async def test_a30_pause_queue_submit_resume_and_cancel_queued_and_running_jobs(rig: Rig) -> None:
    ran: list[str] = []

    @rig.task
    async def work(ctx: Context, hang: bool = False) -> None:
        ran.append(ctx.id)
        rig.watch.note("running")
        if hang:
            await asyncio.Event().wait()

    def state(job: Job) -> State:
        return job.state

    await rig.store.change_queue(ChangeQueue(name="default", paused=True, create=True))
    kept, dropped = await rig.enqueue("work"), await rig.enqueue("work")
    async with rig.working():
        await rig.watch.times("claimed", 1)
        rig.advance(10.0)
        await asyncio.sleep(0)
        assert ran == []
        await cancel(rig, dropped)
        await rig.store.change_queue(ChangeQueue(name="default", paused=False))
        await rig.ended(kept)
        hanging = await rig.enqueue("work", {"hang": True})
        await rig.watch.times("running", 2)
        await cancel(rig, hanging)
        rig.advance(BEAT + 0.1)
        await rig.ended(hanging)
    assert ran == [kept, hanging]
    assert [state(await rig.job(job_id)) for job_id in (kept, dropped, hanging)] == [
        State.SUCCEEDED,
        State.CANCELED,
        State.CANCELED,
    ]


# --- queues that are stopped


@feature("T20", "T23", "A30")
async def test_a_queue_is_stopped_and_what_runs_is_waited_for(h: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Holdfast()
    app.lend(h.store)
    running, waiting = await h.add(), await h.add()
    other = await h.add(queue="other")
    claim = await h.claim_one()
    early = await app.queues.stop(h.queue, timeout="10ms", why="deploy", who="ann")
    assert (early.done, early.queues, early.running) == (False, (h.queue,), {h.queue: 1})
    stopping = asyncio.create_task(app.queues.stop(h.queue))
    assert await h.claim_ids(queues=(h.queue, "other")) == [other.id]
    looks, stats = asyncio.Semaphore(0), h.store.stats

    async def watched() -> Any:
        looks.release()
        return await stats()

    monkeypatch.setattr(h.store, "stats", watched)
    for _ in range(6):  # it looks again and again
        look = asyncio.ensure_future(looks.acquire())
        await asyncio.wait((look, stopping), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert not stopping.done(), "it stopped waiting while a job of the queue runs"
        assert look.done(), "it stopped looking"
    await h.settle(claim)
    stopped = await asyncio.wait_for(stopping, PATIENCE)
    assert (stopped.done, stopped.running) == (True, {})
    assert [await h.state(job.id) for job in (running, waiting)] == [State.SUCCEEDED, State.QUEUED]
    queue = await app.queues.get(h.queue)
    assert (queue.paused, queue.paused_by, queue.paused_why) == (True, "ann", "deploy")
    await app.queues.resume(h.queue)
    assert await h.claim_ids() == [waiting.id]


@feature("T20", "A30")
async def test_all_queues_are_stopped_at_once_and_what_comes_back_waits_too(h: StoreHarness) -> None:
    app = Holdfast()
    app.lend(h.store)
    assert (await app.queues.stop()).queues == ()
    for name in ("a", "b", "c"):
        await h.add(queue=name)
    claims = [*await h.claim(queues=("a",)), *await h.claim(queues=("b",))]
    stopping = asyncio.create_task(app.queues.stop())
    endings: list[Ending] = [Released("stop"), Failed(ERROR)]
    for claim, ending in zip(claims, endings, strict=True):
        await h.settle(claim, ending)
    stopped = await asyncio.wait_for(stopping, PATIENCE)
    assert (stopped.done, stopped.queues) == (True, ("a", "b", "c"))
    assert await h.claim(queues=("a", "b", "c")) == ()
    await h.add(queue="d")  # a queue that comes later is not stopped
    assert len(await h.claim(queues=("a", "b", "c", "d"))) == 1


@feature("T20")
async def test_an_unknown_queue_stops_nothing(h: StoreHarness) -> None:
    app = Holdfast()
    app.lend(h.store)
    await h.add()
    with pytest.raises(UnknownQueue, match="nobody"):
        await app.queues.stop(h.queue, "nobody")
    with pytest.raises(BadTime, match="timeout"):
        await app.queues.stop(h.queue, timeout="soon")
    assert not (await app.queues.get(h.queue)).paused
