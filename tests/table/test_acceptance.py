"""The acceptance scenarios A1 to A4, on every database, through async and sync engines."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.clock import ManualClock
from holdfast.errors import DuplicateRow, UnknownRow
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskState, TaskTable
from tests.features import feature
from tests.table.databases import DRIVERS
from tests.table.models import Order


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Every driver here."""
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def orders(engine: Engine | AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


@feature("A1", "G2", "G3", "G4", "GW2")
async def test_a1_a_batch_with_a_duplicate_is_refused_by_type_and_nothing_of_it_is_stored(
    orders: TaskTable[Order],
) -> None:
    made = await orders.create([Order(order_id="a", tries=3), Order(order_id="b")])
    assert [(one.id, one.new) for one in made] == [("a", True), ("b", True)]
    with pytest.raises(DuplicateRow) as caught:
        await orders.create([Order(order_id="c"), Order(order_id="b"), Order(order_id="d")])
    assert caught.value.ids == ("b",)
    for row_id in ("c", "d"):
        with pytest.raises(UnknownRow, match=row_id):
            await orders.get(row_id)
    assert (await orders.stats())[State.QUEUED] == 2
    assert (await orders.get("a")).tries == 3


@feature("A2", "G6", "G8", "G10", "G12", "G7")
async def test_a2_a_runner_puts_off_three_times_counting_and_then_finishes_with_a_field(
    orders: TaskTable[Order],
) -> None:
    seen: list[int] = []

    async def charge(order: Order, handle: Handle) -> None:
        seen.append(order.tries)
        if order.tries < 3:
            handle.pending(0, tries=order.tries + 1)
        else:
            handle.done(receipt=f"paid after {order.tries}")

    await orders.create(Order(order_id="a"))
    service = TaskService(orders, charge)
    counts = []
    while (await orders.stats())[State.SUCCEEDED] == 0:
        done = await service.do_once(1)
        assert len(done.snoozed) + len(done.done) == 1
        counts.append((await orders.get("a")).tries)
    assert counts == [1, 2, 3, 3]
    assert seen == [0, 1, 2, 3]
    order = await orders.get("a")
    assert (order.task_state, order.receipt, order.task_snoozes, order.task_attempt) == (
        State.SUCCEEDED,
        "paid after 3",
        3,
        4,
    )


@feature("A3", "G14", "G15", "G21", "G27", "G17", "GW18")
async def test_a3_of_100_rows_2_fail_and_the_statistics_agree(orders: TaskTable[Order]) -> None:
    running = highest = 0

    async def charge(order: Order, handle: Handle) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1
        if order.order_id in ("n-007", "n-042"):
            raise ValueError(f"{order.order_id} is refused")

    await orders.create([Order(order_id=f"n-{n:03d}") for n in range(100)])
    done = await TaskService(orders, charge, on_error=lambda *_: None).do_once(100, 50)
    assert len(done.done) == 98
    assert sorted((one.id, one.error, one.final) for one in done.failed) == [
        ("n-007", "n-007 is refused", True),
        ("n-042", "n-042 is refused", True),
    ]
    assert 1 < highest <= 50
    stats = await orders.stats()
    assert stats.words == {
        TaskState.INIT: 0,
        TaskState.DOING: 0,
        TaskState.DONE: 98,
        TaskState.ERROR: 2,
        TaskState.PENDING: 0,
    }
    assert set(stats.states) == set(State)
    assert (await orders.get("n-007")).task_error == "n-007 is refused"


@feature("A4", "G19", "G9", "GW1")
async def test_a4_a_row_due_in_2_seconds_does_not_run_at_1_and_is_done_by_4(engine: Engine | AsyncEngine) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, clock=clock)
    service = TaskService(orders, lambda order, handle: handle.done(), clock=clock)
    await orders.create(Order(order_id="a", task_state=TaskState.PENDING), delay=2.0)
    clock.advance(1.0)
    assert (await service.do_once()).empty
    assert (await orders.get("a")).task_state is State.SCHEDULED
    clock.advance(3.0)
    assert (await service.do_once()).done == ("a",)
    await orders.close()
