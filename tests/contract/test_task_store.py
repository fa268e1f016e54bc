"""The task store as a user holds it, on every store: set up, define, register, enqueue, process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from holdfast import Context, Holdfast, injected
from holdfast.app.session import KNOWN_FOR
from holdfast.clock import ManualClock
from holdfast.errors import TaskInactive, UnknownTask
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import StoreHarness
from tests.features import feature

LIMIT = 60.0


@pytest.fixture
async def h(store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
    """A fresh store of each kind."""
    harness = store_factory()
    await harness.open()
    yield harness
    await harness.close()


@pytest.fixture
async def app(h: StoreHarness) -> AsyncIterator[Holdfast]:
    """An app on it."""
    made = Holdfast()
    made.lend(h.store)
    yield made
    await made.close()


def logged(job: Any) -> list[list[str]]:
    """The texts that each attempt logged."""
    return [[line[2] for line in msgspec.json.decode(attempt.log or b"[]")] for attempt in job.attempts]


@feature("T5", "T6", "T10", "T11", "T14", "T25", "T30", "TW4")
async def test_the_five_steps_work_and_a_canceled_task_does_not(app: Holdfast) -> None:
    made = await app.definitions.create("mail.send", title="Mail", memo="ask ann")
    ran: list[tuple[str, int]] = []

    @app.task("mail.send")
    async def send(to: str, copies: int = 1) -> str:
        ran.append((to, copies))
        return f"sent to {to}"

    by_name = await app.enqueue("mail.send", {"to": "ann", "copies": 2})
    by_hand = await send.enqueue("bob")
    runner = app.runner()  # the default queue
    async with runner:
        assert runner.is_running()
        assert [await job.result(LIMIT) for job in (by_name, by_hand)] == ["sent to ann", "sent to bob"]
    assert not runner.is_running()
    assert sorted(ran) == [("ann", 2), ("bob", 1)]
    found = await app.definitions.get("mail.send")
    assert (found.id, found.title, found.memo) == (made.id, "Mail", "ask ann")
    with pytest.raises(UnknownTask, match=r"mail\.send"):
        await app.enqueue("mail.sent", {})
    waiting = await send.enqueue("cy")
    await app.definitions.cancel("mail.send", who="ann")
    with pytest.raises(TaskInactive):
        await send.enqueue("dan")
    assert (await runner.run_once()).empty
    assert (await waiting.get()).state is State.PAUSED
    await app.definitions.activate("mail.send", who="ann")
    assert (await runner.run_once()).done == (waiting.id,)


@feature("T11", "T12", "T13", "T20", "T23", "T30", "TW13")
async def test_queues_are_started_and_stopped_one_by_one_and_a_stop_waits_for_what_runs(app: Holdfast) -> None:
    begun, opened = asyncio.Semaphore(0), asyncio.Event()

    @app.task("gate")
    async def gate() -> None:
        begun.release()
        await opened.wait()

    first = await gate.using(queue="mail").enqueue()
    second = await gate.using(queue="ledger").enqueue()
    runner = app.runner({"mail": 3, "ledger": "serial"}, grace=LIMIT)
    await runner.start("mail")
    await asyncio.wait_for(begun.acquire(), LIMIT)
    stopping = asyncio.create_task(runner.stop("mail"))
    await asyncio.sleep(0)
    assert (stopping.done(), (await second.get()).state) == (False, State.QUEUED)
    late = await gate.using(queue="mail").enqueue()
    opened.set()
    await asyncio.wait_for(stopping, LIMIT)
    assert [(await job.get()).state for job in (first, late)] == [State.SUCCEEDED, State.QUEUED]
    assert set((await runner.run_once()).done) == {late.id, second.id}


@feature("T7", "T28", "TW7")
async def test_jobs_that_run_at_the_same_time_each_have_their_own_context(app: Holdfast) -> None:
    both, count = asyncio.Event(), 0

    @app.task("echo")
    async def echo(n: int, *, ctx: Context = injected) -> list[Any]:
        nonlocal count
        count += 1
        if count == 5:
            both.set()
        await both.wait()  # all five are within
        ctx.log(f"line of {n}")
        return [n, ctx.id]

    jobs = await echo.enqueue_many([(n,) for n in range(5)])
    await app.work_once()
    for n, handle in enumerate(jobs):
        assert await handle.result(LIMIT) == [n, handle.id]
        assert logged(await handle.get()) == [[f"line of {n}"]]


@feature("T8", "T17", "T28", "TW18", "TW20")
async def test_each_attempt_keeps_its_own_lines_in_their_order_and_in_utc(app: Holdfast) -> None:
    @app.task("twice", max_attempts=2, backoff=["0s"])
    async def twice(*, ctx: Context = injected) -> str:
        ctx.log("first line", level="warning")
        ctx.log(f"second line of attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError("once")
        return "at last"

    handle = await twice.enqueue()
    await app.work_once()
    await app.work_once()
    job = await handle.get()
    assert logged(job) == [["first line", f"second line of attempt {n}"] for n in (1, 2)]
    [one, two] = job.attempts
    assert (one.end, one.error_type, two.end) == (End.FAILED, "ValueError", End.SUCCEEDED)
    for attempt in job.attempts:
        times = [line[0] for line in msgspec.json.decode(attempt.log)]
        levels = [line[1] for line in msgspec.json.decode(attempt.log)]
        assert (times == sorted(times), levels) == (True, ["warning", "info"])
        assert all(abs(time - app.clock.now()) < 3_600 for time in times), "seconds since 1970 in UTC, in no zone"


@feature("T16", "T17", "TW8")
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), MemoryError()], ids=repr)
async def test_whatever_a_handler_raises_fails_its_attempt_and_the_next_job_runs(
    app: Holdfast, error: BaseException
) -> None:
    @app.task("bad", max_attempts=1)
    def bad() -> None:
        raise error

    @app.task("good")
    async def good() -> str:
        return "fine"

    failed, fine = await bad.enqueue(), await good.enqueue()
    passed = await app.work_once()
    assert passed.done == (fine.id,)
    job = await failed.get()
    assert (job.state, job.failures) == (State.FAILED, 1)
    assert job.last is not None
    assert type(error).__name__ in job.last.error_type
    assert "in bad" in job.last.traceback


@feature("T12", "TW17")
async def test_jobs_of_one_instant_run_in_the_order_in_which_they_were_enqueued(app: Holdfast) -> None:
    seen: list[int] = []

    @app.task("note", queue="line")
    async def note(n: int) -> None:
        seen.append(n)

    await app.queues.mode("line", "serial", create=True)
    for n in range(10):
        await note.enqueue(n)
    await note.enqueue_many([(n,) for n in range(10, 30)])
    await app.runner({"line": "serial"}).run_once()
    assert seen == list(range(30))


@feature("T13", "T14", "T22", "TW6")
async def test_a_free_slot_is_filled_at_once_while_another_job_still_runs(app: Holdfast) -> None:
    release = asyncio.Event()

    @app.task("slow")
    async def slow() -> None:
        await release.wait()

    @app.task("quick")
    async def quick() -> None: ...

    first = await slow.enqueue()
    rest = await quick.enqueue_many([()] * 20)
    async with app.worker({"default": 2}):
        for handle in rest:
            await handle.result(LIMIT)
        assert (await first.get()).state is State.RUNNING
        release.set()
        await first.result(LIMIT)


@feature("T18", "T20", "T27", "TW19")
async def test_a_restart_is_a_new_budget_in_place_and_a_requeue_is_a_new_job_in_the_same_queue(app: Holdfast) -> None:
    healthy = False

    @app.task("work", max_attempts=1)
    async def work(n: int) -> int:
        if not healthy:
            raise ValueError("ill")
        return n

    handle = await work.using(queue="own").enqueue(1)
    await app.work_once()
    assert (await handle.get()).state is State.FAILED
    healthy = True
    [ruling] = (await app.jobs.retry(handle.id, who="ann")).rulings
    assert ruling.done
    await app.work_once()
    job = await handle.get()
    assert (job.state, job.queue, job.attempt, job.result) == (State.SUCCEEDED, "own", 2, b"1")
    [ruling] = (await app.jobs.replay(handle.id, arguments={"n": 7}, who="ann")).rulings
    await app.work_once()
    copy = await app.jobs.get(ruling.made)
    assert (copy.queue, copy.result, copy.replay_of) == ("own", b"7", handle.id)
    assert (await app.definitions.get("work")).status == "active"
    assert {one.id for one in (await app.jobs.list(queue="own", states=["succeeded"])).items} == {handle.id, copy.id}


@feature("T3", "T26", "T33")
async def test_definitions_are_counted_listed_in_parts_hidden_and_forgotten(app: Holdfast) -> None:
    for alias in ("a", "b", "c"):
        await app.definitions.create(alias)
    await app.definitions.cancel("b")
    await app.definitions.delete("c")
    assert [await app.definitions.count(**which) for which in ({}, {"status": "canceled"}, {"deleted": True})] == [
        2,
        1,
        3,
    ]
    assert [one.alias for one in await app.definitions.list(deleted=True, limit=2, offset=1)] == ["b", "c"]
    assert (await app.definitions.delete("c", hard=True)).alias == "c"
    assert await app.definitions.count(deleted=True) == 2
    with pytest.raises(UnknownTask):
        await app.definitions.get("c")


@feature("T3", "T6")
async def test_a_task_that_was_forgotten_is_made_anew_by_a_process_that_had_enqueued_it(h: StoreHarness) -> None:
    clock = ManualClock()
    here, elsewhere = Holdfast(clock=clock), Holdfast()
    for app in (here, elsewhere):
        app.lend(h.store)

    @here.task("mail.send", title="Mail")
    async def send(to: str) -> None: ...

    await send.enqueue("ann")
    first = await here.definitions.get("mail.send")
    await here.runner().run_once()
    await here.definitions.delete("mail.send", hard=True)
    with pytest.raises(UnknownTask):
        await here.definitions.get("mail.send")
    await send.enqueue("bob")  # who has deleted it knows that it is gone
    second = await here.definitions.get("mail.send")
    assert (second.title, second.id != first.id) == ("Mail", True)
    await here.runner().run_once()
    await elsewhere.definitions.delete("mail.send", hard=True)
    clock.advance(KNOWN_FOR)  # the others look again after this time
    await send.enqueue_many([("cy",), ("dan",)])
    assert (await here.definitions.get("mail.send")).id not in (first.id, second.id)
    for app in (here, elsewhere):
        await app.close()


@feature("T12", "T13", "T19", "T22", "T30")
async def test_a_queues_interval_and_rescue_time_are_set_and_taken_back(app: Holdfast) -> None:
    await app.queues.poll("mail", "7s", create=True)
    queue = await app.queues.rescue_after("mail", "2m")
    assert (queue.poll_interval, queue.rescue_after) == (7.0, 120.0)
    await app.queues.poll("mail", None)
    assert (await app.queues.rescue_after("mail", None)) == await app.queues.get("mail")
    assert (await app.queues.get("mail")).poll_interval is None
