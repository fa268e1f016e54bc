"""A service is the worker of jobs on rows: start, stop, leases, cancel, retries, poison, hooks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.clock import ManualClock
from holdfast.errors import ConfigError, LeaseLost, UsageError
from holdfast.job.commands import Beat, InstanceDied, Released, Settlement, Succeeded
from holdfast.job.model import Instance
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskTable
from tests.features import feature
from tests.table.databases import DRIVERS
from tests.table.models import Order

PATIENCE = 60.0


@pytest_asyncio.fixture
async def orders(engine: Engine | AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the database will show."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.01)


def all_in(orders: TaskTable[Order], state: State, count: int) -> Callable[[], Awaitable[bool]]:
    """Return the condition that so many rows are in a state."""

    async def look() -> bool:
        return (await orders.stats())[state] == count

    return look


# --- start and stop ------------------------------------------------------------------------------------------------


@feature("G5", "G13", "GW10")
async def test_a_started_service_runs_rows_as_they_come_until_it_is_stopped(orders: TaskTable[Order]) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        handle.done(receipt="r")

    service = TaskService(orders, charge)
    await service.start(limit=10, concurrency=3, interval=0.05)
    for batch in range(3):
        await orders.create([Order(order_id=f"{batch}-{n}") for n in range(5)])
        await until(all_in(orders, State.SUCCEEDED, 5 * (batch + 1)))
    with pytest.raises(UsageError, match="started already"):
        await service.start()
    await service.stop()
    await service.stop()
    await orders.create(Order(order_id="late"))
    assert (await orders.get("late")).task_state is State.QUEUED
    await service.start(interval=0.05)
    await until(all_in(orders, State.SUCCEEDED, 16))
    await service.stop()


@feature("G9", "G13")
async def test_a_row_that_is_put_off_for_a_moment_does_not_wait_for_the_next_look(orders: TaskTable[Order]) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        if order.tries < 20:
            handle.pending("1ms", tries=order.tries + 1)

    service = TaskService(orders, charge)
    await orders.create(Order(order_id="a"))
    await service.start(interval=3_600)
    await until(all_in(orders, State.SUCCEEDED, 1))
    await service.stop()
    assert (await orders.get("a")).task_snoozes == 20


@feature("G13")
async def test_a_stop_waits_for_the_runner_and_stores_what_it_says(orders: TaskTable[Order]) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    async def charge(order: Order, handle: Handle) -> None:
        running.set()
        await go_on.wait()
        handle.done(receipt="in time")

    service = TaskService(orders, charge)
    await orders.create([Order(order_id="a"), Order(order_id="b")])
    work = asyncio.create_task(service.run(limit=1, concurrency=1))
    await running.wait()
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert await work == 0
    assert (await orders.get("a")).receipt == "in time"
    assert (await orders.get("b")).task_state is State.QUEUED


@feature("G13")
async def test_a_service_whose_caller_is_cancelled_gives_its_rows_back(orders: TaskTable[Order]) -> None:
    running = asyncio.Event()

    async def charge(order: Order, handle: Handle) -> None:
        running.set()
        await asyncio.Event().wait()

    await orders.create(Order(order_id="a"))
    work = asyncio.create_task(TaskService(orders, charge).run())
    await running.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    order = await orders.get("a")
    assert (order.task_state, order.task_failures) == (State.QUEUED, 0)


# --- limits --------------------------------------------------------------------------------------------------------


@feature("G14", "G27")
async def test_a_pass_takes_no_more_than_its_limit(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=f"{n}") for n in range(7)])
    service = TaskService(orders, lambda order, handle: None)
    assert [len((await service.do_once(3)).done) for _ in range(4)] == [3, 3, 1, 0]


@feature("G14", "G15", "GW9")
@pytest.mark.parametrize("bad", [0, -1, True, "20", 1.5])
async def test_limits_that_are_none_are_refused(orders: TaskTable[Order], bad: Any) -> None:
    service = TaskService(orders, lambda order, handle: None)
    for call in (service.do_once, service.run):
        with pytest.raises(ConfigError) as caught:
            await call(limit=bad, concurrency=bad)
        assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="TaskTable"):
        TaskService(Order, lambda order, handle: None)  # type: ignore[arg-type]


# --- leases --------------------------------------------------------------------------------------------------------


@feature("G16", "GW3", "G24")
async def test_a_worker_that_lost_its_row_writes_nothing_and_the_refusal_is_seen_in_the_row(
    engine: Engine | AsyncEngine,
) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, clock=clock)
    await orders.create(Order(order_id="a"))
    [stale] = await orders.acquire(lease=30)
    clock.advance(31.0)
    await orders.rescue()
    [fresh] = await orders.acquire()
    for late in (
        orders.mark_done(stale),
        orders.mark_done(stale, receipt="late"),
        orders.mark_pending(stale, 5, tries=9),
        orders.mark_error(stale, "late", tries=9),
    ):
        with pytest.raises(LeaseLost):
            await late
    await orders.mark_done(fresh, receipt="fresh")
    order = await orders.get("a")
    assert (order.receipt, order.tries, order.task_attempt, order.task_failures) == ("fresh", 0, 2, 1)
    assert '"refused":4' in (order.task_note or "")


@feature("G24")
async def test_a_bare_id_can_not_end_a_row(orders: TaskTable[Order]) -> None:
    await orders.create(Order(order_id="a"))
    with pytest.raises(UsageError, match="can not be fenced"):
        await orders.mark_done("a")  # type: ignore[arg-type]


@feature("GW4")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_heartbeat_comes_from_another_thread_with_connections_of_its_own(orders: TaskTable[Order]) -> None:
    await orders.create(Order(order_id="a"))
    [claim] = await orders.acquire()
    source = orders.beat_source()
    found: list[str] = []

    async def beat() -> None:
        for _ in range(3):
            signals = await source.heartbeat(Beat(instance=Instance(id="by hand", worker="w"), lease=300.0))
            found.extend(held.id for held in signals.held)
        await source.close()

    thread = threading.Thread(target=lambda: asyncio.run(beat()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found == ["a"] * 3
    order = await orders.get("a")
    assert order.task_lease_until is not None
    assert order.task_lease_until.timestamp() > claim.lease_until + 100
    await orders.mark_done(claim)


@pytest.mark.parametrize("driver", ["sqlite"])
async def test_the_heartbeats_connections_are_set_up_as_the_users_are(orders: TaskTable[Order]) -> None:
    source = orders.beat_source()
    mode = await source._gate.run(lambda one: one.exec_driver_sql("PRAGMA synchronous").scalar_one(), write=False)
    assert mode == 0  # as `quick` sets it for each connection of the user's engine
    await source.close()


async def test_a_claim_whose_answer_was_lost_is_given_back(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id="a"), Order(order_id="b")])
    claim = (await orders.acquire(2))[1]
    nothing: Any = None
    unheard = replace(claim, item=nothing)
    [answer] = await orders.settle([Settlement(unheard, Released("never heard of", counted=False))])
    assert answer.state is State.QUEUED
    assert (await orders.get("b")).task_state is State.QUEUED
    assert (await orders.get("a")).task_state is State.RUNNING


@feature("GW14", "G19")
async def test_times_are_the_databases_and_not_those_of_workers(orders: TaskTable[Order]) -> None:
    async def now() -> float:
        micros = await orders.gate.run(lambda one: one.execute(select(orders.rows.now())).scalar_one(), write=False)
        return int(micros) / 1_000_000

    async def charge(order: Order, handle: Handle) -> None:
        handle.pending("1h")

    before = await now()
    for clock in (ManualClock(before + 90 * 86_400), ManualClock(before - 90 * 86_400)):
        service = TaskService(orders, charge, clock=clock)
        name = f"due {clock.now()}"
        await orders.create([Order(order_id=name), Order(order_id=f"{name}, later")], delay=0)
        await orders.create(Order(order_id=f"{name}, much later"), delay="1d")
        assert len((await service.do_once()).snoozed) == 2
        assert (await service.do_once()).empty
        row = await orders.get(name)
        assert before <= row.task_created_at.timestamp() <= row.task_updated_at.timestamp() <= await now()
        assert before + 3_600 <= row.task_run_at.timestamp() <= await now() + 3_600


# --- cancel, time limit --------------------------------------------------------------------------------------------


async def test_a_running_row_that_is_asked_to_stop_hears_of_it_and_ends_as_canceled(orders: TaskTable[Order]) -> None:
    running = asyncio.Event()

    async def charge(order: Order, handle: Handle) -> None:
        running.set()
        await asyncio.Event().wait()

    service = TaskService(orders, charge)
    await orders.create([Order(order_id="a"), Order(order_id="b")])
    # The lease is long: what tells the runner in time is the push of the same process.
    await service.start(lease=3_600.0, concurrency=1, limit=1)
    await running.wait()
    changed = await orders.cancel(ids=["a", "b"], who="ann", why="sold out")
    assert (changed.asked, changed.done, changed.refused) == (("a",), ("b",), ())
    await until(all_in(orders, State.CANCELED, 2))
    await service.stop()
    assert "sold out" in ((await orders.get("a")).task_note or "")


async def test_a_running_row_that_another_process_asks_to_stop_hears_of_it_by_the_beat(
    orders: TaskTable[Order], engine: Engine | AsyncEngine
) -> None:
    running = asyncio.Event()

    async def charge(order: Order, handle: Handle) -> None:
        running.set()
        await asyncio.Event().wait()

    service = TaskService(orders, charge)
    await orders.create(Order(order_id="a"))
    await service.start(lease=1.0)
    await running.wait()
    elsewhere = TaskTable(Order, engine)
    await elsewhere.cancel(ids=["a"])
    await until(all_in(orders, State.CANCELED, 1))
    await service.stop()
    await elsewhere.close()


@feature("G18")
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
async def test_whatever_level_the_users_engine_has_a_row_is_run_once(engine: AsyncEngine, level: str) -> None:
    orders = TaskTable(Order, engine.execution_options(isolation_level=level))
    await orders.create([Order(order_id=f"{n}") for n in range(40)])
    claims = await asyncio.gather(*(orders.acquire(7) for _ in range(10)))
    taken = [claim.id for some in claims for claim in some]
    assert len(taken) == len(set(taken)) == 40
    await orders.close()


async def test_a_runner_past_its_time_limit_is_stopped_and_its_row_failed(orders: TaskTable[Order]) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        await asyncio.Event().wait()

    await orders.create(Order(order_id="a"))
    found = await TaskService(orders, charge, timeout=0.05, on_error=lambda *_: None).do_once()
    assert [one.id for one in found.failed] == ["a"]
    assert "expected to end within 0.05 s" in ((await orders.get("a")).task_error or "")


# --- retries and poison --------------------------------------------------------------------------------------------


@feature("G28", "GW5")
async def test_with_a_policy_a_failed_row_is_retried_after_its_backoff_and_then_given_up(
    engine: Engine | AsyncEngine,
) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, retry=RetryPolicy(max_attempts=3, delays=(10.0, 20.0)), clock=clock)
    told: list[tuple[str, str, str]] = []

    async def charge(order: Order, handle: Handle) -> None:
        raise ValueError("no funds")

    service = TaskService(
        orders, charge, clock=clock, on_error=lambda queue, row, error: told.append((queue, row.order_id, str(error)))
    )
    await orders.create(Order(order_id="a"))
    for wait, state in ((10.0, State.RETRYING), (20.0, State.RETRYING), (0.0, State.FAILED)):
        found = await service.do_once()
        assert found.failed[0].final is (state is State.FAILED)
        order = await orders.get("a")
        assert (order.task_state, order.task_error) == (state, "no funds")
        clock.advance(max(0.0, wait - 1.0))
        assert (await service.do_once()).empty
        clock.advance(1.0)
    assert told == [("orders", "a", "no funds")] * 3


@feature("GW5")
async def test_a_row_whose_workers_die_is_given_up_after_five_of_them(engine: Engine | AsyncEngine) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, clock=clock)
    await orders.create(Order(order_id="a"))
    attempts = 0
    while (await orders.get("a")).task_state is not State.FAILED:
        attempts += len(await orders.acquire(lease=30))
        clock.advance(4_000.0)
        await orders.rescue()
    order = await orders.get("a")
    assert (attempts, order.task_failures, order.task_error) == (5, 5, "its lease ended")


@feature("GW5")
async def test_a_row_that_kills_its_process_is_found_and_the_others_are_not_blamed(orders: TaskTable[Order]) -> None:
    orders.retry_policy = RetryPolicy(max_attempts=100, base=0)
    await orders.create([Order(order_id=f"n-{n}") for n in range(5)])
    deaths = 0
    while True:
        claims = await orders.acquire(5)
        if not claims:
            break
        assert sum(claim.suspect for claim in claims) <= 1
        if any(claim.id == "n-2" for claim in claims):
            deaths += 1
            await orders.instance_died(InstanceDied(instance="by hand", detail="signal 11"))
        else:
            await orders.settle([Settlement(claim, Succeeded()) for claim in claims])
    states = {row.order_id: row.task_state for row in (await orders.list()).items}
    assert states == {f"n-{n}": State.FAILED if n == 2 else State.SUCCEEDED for n in range(5)}
    assert deaths == 4
