"""What a runner may say, and what comes of it in the row."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from holdfast import cancel, current, done, fail, snooze
from holdfast.clock import ManualClock
from holdfast.errors import BadColumns, ConfigError, LeaseLost
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskTable
from holdfast.worker.once import Pass
from tests.features import feature
from tests.table.models import Customer, Order

Runner = Callable[[Order, Handle], Any]


@pytest_asyncio.fixture
async def orders(engine: AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


async def run(orders: TaskTable[Order], runner: Runner, *, fields: dict[str, Any] | None = None) -> tuple[Order, Pass]:
    """Run one row; return it as it is stored, and what the pass says."""
    await orders.create(Order(order_id="a", **(fields or {})))
    found = await TaskService(orders, runner, on_error=lambda *_: None).do_once(1)
    return await orders.get("a"), found


# --- done, pending, error ------------------------------------------------------------------------------------------


@feature("G7", "G12")
async def test_a_runner_that_says_nothing_is_done(orders: TaskTable[Order]) -> None:
    order, found = await run(orders, lambda order, handle: None)
    assert (order.task_state, found.done) == (State.SUCCEEDED, ("a",))


@feature("G8")
async def test_columns_of_any_type_are_written_with_the_state(orders: TaskTable[Order]) -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)

    async def charge(order: Order, handle: Handle) -> None:
        handle.done(receipt="r-1", total=Decimal("12.50"), paid_at=at, update={"tries": 2}, delay="none")

    order, _ = await run(orders, charge)
    assert (order.receipt, order.total, order.tries, order.delay) == ("r-1", Decimal("12.50"), 2, "none")
    assert order.paid_at is not None
    assert order.paid_at.replace(tzinfo=UTC) == at


@feature("G12")
async def test_the_last_report_counts_and_nothing_is_written_before_the_runner_returns(
    orders: TaskTable[Order],
) -> None:
    seen: list[tuple[object, str | None]] = []

    async def charge(order: Order, handle: Handle) -> None:
        handle.error("first")
        handle.pending("1h", receipt="second")
        handle.done(receipt="third")
        stored = await orders.get("a")
        seen.append((stored.task_state, stored.receipt))

    order, found = await run(orders, charge)
    assert seen == [(State.RUNNING, None)]
    assert (order.task_state, order.receipt, order.task_error) == (State.SUCCEEDED, "third", None)
    assert found.done == ("a",)


@feature("G9", "G10", "GW15")
async def test_pending_waits_its_delay_and_keeps_columns_and_count(engine: AsyncEngine) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, clock=clock)

    async def charge(order: Order, handle: Handle) -> None:
        handle.pending("5m", tries=order.tries + 1)

    order, found = await run(orders, charge)
    assert (order.task_state, order.tries, order.task_snoozes, order.task_failures) == (State.SCHEDULED, 1, 1, 0)
    assert order.task_run_at.timestamp() == clock.now() + 300
    assert found.snoozed == ("a",)
    assert not found.empty


@feature("G11")
async def test_error_ends_the_row_with_its_message_and_columns(orders: TaskTable[Order]) -> None:
    order, found = await run(orders, lambda order, handle: handle.error(ValueError("no funds"), tries=1))
    assert (order.task_state, order.task_error, order.tries) == (State.FAILED, "no funds", 1)
    assert [(one.id, one.error, one.final) for one in found.failed] == [("a", "no funds", True)]


@feature("G28")
@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken"), MemoryError("broken")])
async def test_whatever_a_runner_raises_fails_its_row_alone(orders: TaskTable[Order], error: BaseException) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        handle.done(receipt="lost")
        if order.order_id == "a":
            raise error

    await orders.create([Order(order_id="a"), Order(order_id="b")])
    found = await TaskService(orders, charge, on_error=lambda *_: None).do_once()
    assert ([one.id for one in found.failed], found.done) == (["a"], ("b",))
    order = await orders.get("a")
    assert (order.task_state, order.receipt) == (State.FAILED, None)
    assert "broken" in (order.task_error or "")


@feature("GW12")
async def test_a_long_error_is_cut_and_never_blocks_the_write(orders: TaskTable[Order]) -> None:
    order, _ = await run(orders, lambda order, handle: handle.error("x\x00" * 100_000))
    assert order.task_state is State.FAILED
    assert order.task_error is not None
    assert 100 < len(order.task_error.encode()) <= 8_192


@feature("G6", "GW11")
@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (done(update={"receipt": "r"}), State.SUCCEEDED),
        (snooze("1h", update={"receipt": "r"}), State.SCHEDULED),
        (cancel("gone", update={"receipt": "r"}), State.CANCELED),
        (fail("never", update={"receipt": "r"}), State.FAILED),
    ],
    ids=["done", "snooze", "cancel", "fail"],
)
async def test_an_outcome_may_be_returned(orders: TaskTable[Order], outcome: Any, state: State) -> None:
    order, _ = await run(orders, lambda order, handle: outcome)
    assert (order.task_state, order.receipt) == (state, "r")


@feature("G6")
async def test_a_plain_runner_works_in_a_thread_and_finds_its_context(orders: TaskTable[Order]) -> None:
    threads: list[str] = []

    def charge(order: Order, handle: Handle) -> None:
        threads.append(threading.current_thread().name)
        assert current().token == handle.token > 0
        handle.done(receipt=f"attempt {handle.ctx.attempt}")

    order, _ = await run(orders, charge)
    assert order.receipt == "attempt 1"
    assert threads != [threading.main_thread().name]


@feature("G6")
async def test_a_runner_may_be_an_object(orders: TaskTable[Order]) -> None:
    class Charge:
        async def run(self, order: Order, handle: Handle) -> None:
            handle.done(receipt="by object")

    await orders.create(Order(order_id="a"))
    assert (await TaskService(orders, Charge()).do_once()).done == ("a",)
    assert (await orders.get("a")).receipt == "by object"


# --- what is refused -----------------------------------------------------------------------------------------------


@feature("GW17")
async def test_columns_that_are_not_the_users_are_refused_by_name_and_the_row_is_not_retried(
    engine: AsyncEngine,
) -> None:
    orders = TaskTable(Order, engine, retry=RetryPolicy(max_attempts=5, base=0))
    caught: list[BadColumns] = []

    async def charge(order: Order, handle: Handle) -> None:
        try:
            handle.done(reciept="r", task_state="queued", order_id="b", total=1)
        except BadColumns as error:
            caught.append(error)
            raise

    order, found = await run(orders, charge)
    assert caught[0].columns == ("reciept", "task_state", "order_id")
    assert "did you mean receipt?" in str(caught[0])
    assert (order.task_state, order.total) == (State.FAILED, None)
    assert "task_state is kept by the framework" in (order.task_error or "")
    assert found.failed[0].final


async def test_what_was_set_on_the_instance_and_not_reported_is_an_error_that_names_it(
    orders: TaskTable[Order],
) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        order.receipt, order.tries, order.total = "r-1", order.tries, Decimal(2)
        handle.done(total=order.total)

    order, found = await run(orders, charge)
    assert (order.task_state, order.receipt) == (State.FAILED, None)
    assert "not reported: receipt" in found.failed[0].error
    assert "tries" not in found.failed[0].error


async def test_what_was_set_and_reported_is_fine(orders: TaskTable[Order]) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        order.receipt = "r-1"
        handle.done(receipt=order.receipt)

    order, _ = await run(orders, charge)
    assert (order.task_state, order.receipt) == (State.SUCCEEDED, "r-1")


@pytest.mark.parametrize(
    "value", ["r-1", 0, done("r-1"), done(update={"nothing": 1}), snooze(0, update={"task_token": 1})]
)
async def test_a_value_that_has_no_place_in_the_row_is_an_error(orders: TaskTable[Order], value: object) -> None:
    order, found = await run(orders, lambda order, handle: value)
    assert order.task_state is State.FAILED
    assert "column" in found.failed[0].error or "framework" in found.failed[0].error


@feature("G11")
@pytest.mark.parametrize("bad", [None, 7, ""])
async def test_an_error_without_an_error_is_refused(orders: TaskTable[Order], bad: Any) -> None:
    order, _ = await run(orders, lambda order, handle: handle.error(bad))
    assert "expected an exception or a text" in (order.task_error or "")


async def test_a_delay_that_is_none_is_refused(orders: TaskTable[Order]) -> None:
    order, _ = await run(orders, lambda order, handle: handle.pending(-1))
    assert order.task_state is State.FAILED
    assert "0 or more seconds" in (order.task_error or "")


@feature("G8")
async def test_a_column_that_the_database_refuses_fails_its_row_and_no_other(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=one) for one in ("b", "c", "d")])
    await orders.create(Order(order_id="held", code="x"), delay="1h")

    async def charge(order: Order, handle: Handle) -> None:
        handle.done(code="x" if order.order_id == "c" else order.order_id)

    found = await TaskService(orders, charge, on_error=lambda *_: None).do_once()
    assert (sorted(found.done), [one.id for one in found.failed]) == (["b", "d"], ["c"])
    assert (await orders.get("c")).code is None


@pytest.mark.parametrize(
    "runner",
    [None, "charge", Order, lambda: None, lambda order: None, lambda a, b, c: None, (lambda order, handle: (yield))],
)
async def test_a_runner_of_another_shape_is_refused_at_once(orders: TaskTable[Order], runner: Any) -> None:
    with pytest.raises(ConfigError, match="runner: expected"):
        TaskService(orders, runner)


# --- the row -------------------------------------------------------------------------------------------------------


@feature("G6")
async def test_the_instance_is_detached_and_holds_what_its_mapping_loads_eagerly(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Customer(id=1, name="ann"))
        await session.commit()
    names: list[str] = []

    async def charge(order: Order, handle: Handle) -> None:
        assert order.customer is not None
        names.append(order.customer.name)

    await run(orders, charge, fields={"customer_id": 1})
    assert names == ["ann"]


async def test_progress_and_its_columns_are_written_while_the_runner_works(orders: TaskTable[Order]) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        handle.ctx.progress(50, update={"tries": 5})
        async with asyncio.timeout(60):
            while (await orders.get("a")).tries != 5:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)
        handle.done(receipt="r")

    order, _ = await run(orders, charge)
    assert (order.tries, order.receipt, order.task_state) == (5, "r", State.SUCCEEDED)


@feature("GW13")
async def test_a_row_that_is_gone_when_its_runner_returns_is_told_as_lost(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    async def charge(order: Order, handle: Handle) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM orders"))

    await orders.create(Order(order_id="a"))
    found = await TaskService(orders, charge).do_once()
    assert (found.lost, found.done) == (("a",), ())


async def test_a_row_that_was_deleted_and_made_again_refuses_the_worker_of_the_old_one(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    await orders.create(Order(order_id="a"))
    [old] = await orders.acquire()
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM orders"))
    await orders.create(Order(order_id="a"))
    [new] = await orders.acquire()
    assert new.token > old.token
    for late in (orders.mark_done(old), orders.mark_done(old, receipt="old")):
        with pytest.raises(LeaseLost):
            await late
    await orders.mark_done(new, receipt="new")
    assert (await orders.get("a")).receipt == "new"
