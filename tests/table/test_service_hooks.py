"""What listens to a service: middleware, metrics, an error handler, a logger of one's own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskTable
from holdfast.telemetry.metrics import Metrics
from tests.features import feature
from tests.table.models import Order
from tests.table.test_service import all_in, until


@pytest_asyncio.fixture
async def orders(engine: Engine | AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


async def test_middleware_runs_around_each_row(orders: TaskTable[Order]) -> None:
    seen: list[str] = []

    async def watch(ctx: Any, call_next: Callable[[], Awaitable[object]]) -> object:
        seen.append(f"before {ctx.id}")
        answer = await call_next()
        seen.append(f"after {ctx.id}")
        return answer

    await orders.create(Order(order_id="a"))
    found = await TaskService(orders, lambda order, handle: handle.done(tries=1), middleware=[watch]).do_once()
    assert (found.done, seen) == (("a",), ["before a", "after a"])
    assert (await orders.get("a")).tries == 1


@feature("G21")
async def test_the_metrics_of_the_worker_count_rows_as_jobs(orders: TaskTable[Order]) -> None:
    metrics = Metrics()

    async def charge(order: Order, handle: Handle) -> None:
        if order.order_id == "b":
            raise ValueError("no")

    await orders.create([Order(order_id=one) for one in "abc"])
    await TaskService(orders, charge, metrics=metrics, on_error=lambda *_: None).do_once()
    counters = metrics.tally.read().counters
    assert counters["completed"] == {("orders", "orders"): 2}
    assert counters["dead"] == {("orders", "orders"): 1}


@feature("GW6")
async def test_a_claim_that_fails_is_an_error_of_the_service_and_touches_no_row(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    told: list[tuple[object, str]] = []
    asked = asyncio.Event()

    def on_error(_queue: str, row: object, error: BaseException) -> None:
        told.append((row, str(error)))
        if "CREATE TABLE" in str(error):
            asked.set()

    service = TaskService(orders, lambda order, handle: None, on_error=on_error)
    await service.start(interval=0.05)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE orders RENAME TO gone"))
    await asked.wait()
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE gone RENAME TO orders"))
    await orders.create(Order(order_id="a"))
    await until(all_in(orders, State.SUCCEEDED, 1))
    await service.stop()
    assert {row for row, _ in told} == {None}
    assert (await orders.get("a")).task_attempt == 1


@feature("G29")
async def test_a_logger_of_ones_own_hears_of_failures_and_the_engine_is_there_for_other_statements(
    orders: TaskTable[Order], engine: Engine | AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def charge(order: Order, handle: Handle) -> None:
        raise ValueError("the card was declined")

    await orders.create(Order(order_id="a"))
    logger = logging.LoggerAdapter(logging.getLogger("shop.orders"), {"shop": "north"})
    await TaskService(orders, charge, logger=logger).do_once()
    [record] = [one for one in caplog.records if one.name == "shop.orders"]
    assert "the card was declined" in record.getMessage()
    assert getattr(record, "shop", "") == "north"
    assert orders.engine is engine
