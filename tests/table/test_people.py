"""What people do to rows, and what they see of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.clock import ManualClock
from holdfast.errors import ContentError, LeaseLost, UnknownRow, UsageError
from holdfast.job.commands import Accepted, Settlement, Succeeded
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskState, TaskTable
from holdfast.table.update import ColumnUpdate
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine
from tests.table.models import Line, Order


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def orders(engine: AsyncEngine, clock: ManualClock) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine, clock=clock)
    yield table
    await table.close()


async def of_each_state(orders: TaskTable[Order]) -> None:
    """Make one row of each state, named after it."""

    async def charge(order: Order, handle: Handle) -> None:
        if order.order_id == "failed":
            handle.error("no", tries=4)

    await orders.create([Order(order_id="failed"), Order(order_id="succeeded")])
    await TaskService(orders, charge, on_error=lambda *_: None).do_once()
    await orders.create(Order(order_id="canceled"))
    await orders.cancel(ids=["canceled"])
    await orders.create(Order(order_id="running"))
    await orders.acquire(lease=30)
    await orders.create(Order(order_id="scheduled"), delay="1h")
    await orders.create(Order(order_id="queued"))


# --- reset, retry, cancel ------------------------------------------------------------------------------------------


@feature("G20")
async def test_reset_gives_failed_rows_back_with_new_budgets_and_refuses_all_others(orders: TaskTable[Order]) -> None:
    await of_each_state(orders)
    token = (await orders.get("failed")).task_token
    changed = await orders.reset(ids=["failed", "succeeded", "running", "canceled", "nobody"])
    assert changed.done == ("failed",)
    assert [(one.id, one.why) for one in changed.refused] == [
        ("succeeded", "expected it failed, found it succeeded"),
        ("running", "expected it failed, found it running"),
        ("canceled", "expected it failed, found it canceled"),
        ("nobody", "no row has this id"),
    ]
    order = await orders.get("failed")
    assert (order.task_state, order.task_failures, order.task_error, order.tries) == (State.QUEUED, 0, None, 4)
    assert order.task_token == token


@feature("G20")
async def test_reset_by_condition_takes_only_what_failed_and_matches(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=f"n-{n}", tries=n) for n in range(6)])
    service = TaskService(orders, lambda order, handle: handle.error("no"), on_error=lambda *_: None)
    await service.do_once(4)
    changed = await orders.reset(Order.tries >= 2)
    assert sorted(changed.done) == ["n-2", "n-3"]
    assert (await orders.stats()).words[TaskState.ERROR] == 2
    assert len((await orders.reset(true())).done) == 2


async def test_retry_takes_canceled_rows_too(orders: TaskTable[Order]) -> None:
    await of_each_state(orders)
    assert sorted((await orders.retry(true())).done) == ["canceled", "failed"]
    assert (await orders.get("canceled")).task_note is None


async def test_cancel_ends_waiting_rows_asks_running_ones_and_leaves_what_has_ended(orders: TaskTable[Order]) -> None:
    await of_each_state(orders)
    changed = await orders.cancel(ids=["queued", "scheduled", "running", "succeeded"], who="ann")
    assert (changed.done, changed.asked) == (("queued", "scheduled"), ("running",))
    assert [one.id for one in changed.refused] == ["succeeded"]
    stats = await orders.stats()
    assert (stats[State.CANCELED], stats[State.RUNNING]) == (3, 1)


async def test_an_action_needs_ids_or_a_condition(orders: TaskTable[Order]) -> None:
    for call in (orders.reset, orders.retry, orders.cancel):
        with pytest.raises(UsageError, match="found none"):
            await call()
        with pytest.raises(UsageError, match="found both"):
            await call(true(), ids=["a"])


async def test_an_action_on_many_rows_goes_in_batches(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=f"n-{n:04d}") for n in range(1_203)])
    assert len((await orders.cancel(true())).done) == 1_203
    assert (await orders.stats())[State.CANCELED] == 1_203


# --- looking -------------------------------------------------------------------------------------------------------


@feature("G25")
async def test_get_finds_a_row_in_any_state_and_names_one_that_is_not_there(orders: TaskTable[Order]) -> None:
    await of_each_state(orders)
    for state in ("failed", "succeeded", "canceled", "running", "scheduled", "queued"):
        assert (await orders.get(state)).task_state == State(state)
    with pytest.raises(UnknownRow, match="'nobody'"):
        await orders.get("nobody")


@feature("G21")
async def test_statistics_show_every_state_and_since_when_the_first_is_ready(
    orders: TaskTable[Order], clock: ManualClock
) -> None:
    empty = await orders.stats()
    assert (empty.states, empty.oldest_ready_at) == (dict.fromkeys(State, 0), None)
    start = clock.now()
    await orders.create(Order(order_id="first"))
    clock.advance(5.0)
    await orders.create(Order(order_id="second"))
    stats = await orders.stats()
    assert (stats["INIT"], stats.total, stats.oldest_ready_at) == (2, 2, start)


async def test_a_list_goes_through_all_rows_in_pages_and_by_conditions(engine: AsyncEngine) -> None:
    lines = TaskTable(Line, engine)
    await lines.create([Line(order_id=f"o-{n // 3}", number=n % 3) for n in range(10)])
    seen, after = [], None
    while True:
        page = await lines.list(limit=4, after=after)
        seen += [(line.order_id, line.number) for line in page.items]
        after = page.cursor
        if after is None:
            break
    assert seen == [(f"o-{n // 3}", n % 3) for n in range(10)]
    some = await lines.list(Line.number == 1, Line.order_id > "o-0", state=State.QUEUED)
    assert [line.order_id for line in some.items] == ["o-1", "o-2"]
    with pytest.raises(ContentError, match="limit"):
        await lines.list(limit=0)
    await lines.close()


@feature("G26")
async def test_what_is_stuck_is_listed_and_nothing_is_changed(orders: TaskTable[Order], clock: ManualClock) -> None:
    await orders.create(Order(order_id="a"))
    await orders.acquire(lease=30)
    await orders.create(Order(order_id="b"), delay=10)
    await orders.create(Order(order_id="c"), delay=10_000)
    assert (await orders.stuck()).lost == ()
    clock.advance(100.0)
    stuck = await orders.stuck("1m")
    assert ([row.order_id for row in stuck.lost], [row.order_id for row in stuck.overdue]) == (["a"], ["b"])
    assert (await orders.stuck("5m")).lost == ()
    states = {row.order_id: row.task_state for row in (await orders.list()).items}
    assert states == {"a": State.RUNNING, "b": State.SCHEDULED, "c": State.SCHEDULED}


# --- by hand -------------------------------------------------------------------------------------------------------


@feature("G22", "G24")
async def test_rows_may_be_claimed_and_ended_by_hand(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=one) for one in "abc"])
    claims = {claim.id: claim for claim in await orders.acquire(3)}
    assert claims["a"].item.task_state is State.RUNNING
    await orders.mark_done(claims["a"], receipt="r")
    await orders.mark_pending(claims["b"], "5m", tries=1)
    await orders.mark_error(claims["c"], "no", tries=2)
    rows = {row.order_id: row for row in (await orders.list()).items}
    assert [rows[one].task_state for one in "abc"] == [State.SUCCEEDED, State.SCHEDULED, State.FAILED]
    assert (rows["a"].receipt, rows["b"].tries, rows["c"].tries, rows["c"].task_error) == ("r", 1, 2, "no")
    assert await orders.acquire() == ()


@feature("G24", "GW13", "GW3")
async def test_a_report_may_be_repeated_and_one_that_says_other_things_is_refused(orders: TaskTable[Order]) -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    said: dict[str, Any] = {"receipt": "r", "total": Decimal("12.345"), "paid_at": at, "tries": 3}
    await orders.create([Order(order_id=one) for one in "abc"])
    a, b, c = await orders.acquire(3)
    for _ in range(2):  # as one does whose first answer was lost
        await orders.mark_done(a, **said)
        await orders.mark_pending(b, 5, tries=1)
        await orders.mark_error(c, "no", tries=1)
    await orders.mark_done(a, receipt="r")  # nothing of this is missing in the row
    await orders.mark_done(a)
    for other in (
        orders.mark_done(a, **{**said, "receipt": "another"}),
        orders.mark_done(a, **{**said, "total": Decimal("12.36")}),
        orders.mark_done(a, **{**said, "paid_at": at + timedelta(seconds=1)}),
        orders.mark_done(a, delay="more"),
        orders.mark_pending(a, 5),
        orders.mark_pending(b, 5, tries=2),
        orders.mark_pending(b, 6, tries=1),
        orders.mark_done(b),
        orders.mark_error(c, "no", tries=2),
        orders.mark_error(c, "another"),
    ):
        with pytest.raises(LeaseLost, match="or a settle has ended it"):
            await other
    rows = {row.order_id: row for row in (await orders.list()).items}
    assert (rows["a"].receipt, rows["a"].tries, rows["a"].delay) == ("r", 3, None)
    assert (rows["b"].tries, rows["b"].task_snoozes, rows["c"].tries, rows["c"].task_error) == (1, 1, 1, "no")
    assert '"refused":5' in (rows["a"].task_note or "")


@feature("G24", "GW3")
async def test_of_two_reports_in_one_batch_the_second_counts_only_if_it_says_the_same(orders: TaskTable[Order]) -> None:
    await orders.create([Order(order_id=one) for one in "ab"])
    a, b = await orders.acquire(2)
    answers = await orders.settle(
        [
            Settlement(claim, Succeeded(update=ColumnUpdate({"tries": tries})))
            for claim, tries in ((a, 1), (b, 1), (a, 1), (b, 2))
        ]
    )
    applied, repeated, stale = Accepted.APPLIED, Accepted.REPEATED, Accepted.STALE
    assert [one.accepted for one in answers] == [applied, applied, repeated, stale]
    assert {row.tries for row in (await orders.list()).items} == {1}


@feature("G16", "G24")
async def test_a_lease_that_is_over_refuses_nothing_until_another_could_have_the_row(
    orders: TaskTable[Order], clock: ManualClock
) -> None:
    await orders.create([Order(order_id=one) for one in "abcd"])
    claims = await orders.acquire(4, lease=30)
    clock.advance(3_600.0)
    await orders.mark_done(claims[0], receipt="late, and nobody else's")
    await orders.mark_pending(claims[1], 5, tries=1)
    await orders.mark_error(claims[2], "late")
    states = {row.order_id: row.task_state for row in (await orders.list()).items}
    assert states == {"a": State.SUCCEEDED, "b": State.SCHEDULED, "c": State.FAILED, "d": State.RUNNING}
    await orders.rescue()
    with pytest.raises(LeaseLost):
        await orders.mark_done(claims[3])


@pytest.mark.parametrize("bad", [0, -1, 1_001, "5", 2.0, True, None])
async def test_a_limit_that_is_none_is_refused(orders: TaskTable[Order], bad: Any) -> None:
    await orders.create(Order(order_id="a"))
    for call in (orders.list, orders.stuck, orders.acquire):
        with pytest.raises(ContentError, match=r"limit: expected a whole number of rows from 1 to 1,000, found"):
            await call(limit=bad)
    assert (await orders.get("a")).task_state is State.QUEUED


# --- locks ---------------------------------------------------------------------------------------------------------


#: What makes a lock be met soon, and not slept through in the driver or the server.
_SOON: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 0.01},
    "postgresql": {"server_settings": {"lock_timeout": "20"}},
    "mariadb": {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"},
}


@feature("G23", "GW8")
async def test_a_lock_is_waited_for_and_a_cancelled_caller_leaves_at_once(servers: Databases, driver: str) -> None:
    url = servers.with_tables(driver)
    engine, other = make_engine(url, connect_args=_SOON[driver]), make_engine(url)
    assert isinstance(engine, AsyncEngine)
    assert isinstance(other, AsyncEngine)
    orders = TaskTable(Order, engine)
    await orders.create([Order(order_id=one) for one in "ab"])
    met, translated = asyncio.Semaphore(0), orders.gate.translated

    def spied(error: DBAPIError) -> Exception:
        met.release()
        return translated(error)

    orders.gate.translated = spied  # type: ignore[method-assign]
    async with other.connect() as holder:
        if driver == "sqlite":
            await holder.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await holder.execute(select(Order).with_for_update())
        waiting = asyncio.create_task(orders.cancel(ids=["a"]))
        leaving = asyncio.create_task(orders.cancel(ids=["b"]))
        for _ in range(3):
            await met.acquire()
        assert not waiting.done()
        assert not leaving.done()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await holder.rollback()
    assert (await waiting).done == ("a",)
    assert (await orders.stats())[State.QUEUED] == 1
    await engine.dispose()
    await other.dispose()
