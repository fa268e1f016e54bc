"""One lease for all services of a table: within a process, and over processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.clock import ManualClock
from holdfast.errors import ConfigError
from holdfast.job.commands import Beat, QueueWant, Want
from holdfast.job.model import Instance
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskTable
from tests.table.models import Order
from tests.table.test_service import all_in, until


@pytest_asyncio.fixture
async def orders(engine: Engine | AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


async def test_two_services_of_one_process_need_the_same_lease(orders: TaskTable[Order]) -> None:
    service, other = (TaskService(orders, lambda order, handle: None) for _ in range(2))
    await service.start(lease=30)
    with pytest.raises(ConfigError, match=r"found 60 s here and 30 s in another service of this process"):
        await other.run(lease=60)
    await other.start(lease=30)
    await other.stop()
    await service.stop()
    await other.start(lease=60)
    await other.stop()


async def test_a_service_with_another_lease_is_refused_as_soon_as_the_other_holds_a_row(
    orders: TaskTable[Order], engine: Engine | AsyncEngine
) -> None:
    elsewhere, hold = TaskTable(Order, engine), asyncio.Event()  # as another process has it

    async def charge(order: Order, handle: Handle) -> None:
        await hold.wait()

    told: list[str] = []
    first = TaskService(elsewhere, charge)
    service = TaskService(orders, lambda order, handle: None, on_error=lambda _q, _job, error: told.append(str(error)))
    await first.start(lease=60, limit=1, concurrency=1, interval=0.05)
    await service.start(lease=30, interval=3_600)  # nobody holds anything yet
    await elsewhere.create(Order(order_id="a"))
    await until(lambda: _is_running(elsewhere, "a"))
    await orders.create(Order(order_id="b"))

    async def is_told() -> bool:
        return any("found 30 s here and 60 s in another process" in text for text in told)

    await until(is_told)
    for refused in (service.do_once(lease=30), TaskService(TaskTable(Order, engine), charge).run(lease=15)):
        with pytest.raises(ConfigError, match="60 s in another process, which holds rows now"):
            await refused
    assert (await orders.get("b")).task_state is State.QUEUED
    hold.set()
    await first.stop()
    await until(all_in(orders, State.SUCCEEDED, 2))
    await service.stop()
    await elsewhere.close()


async def _is_running(orders: TaskTable[Order], row_id: str) -> bool:
    return (await orders.get(row_id)).task_state is State.RUNNING


async def test_a_lease_that_is_extended_is_not_taken_for_another(engine: Engine | AsyncEngine) -> None:
    clock = ManualClock()
    orders = TaskTable(Order, engine, clock=clock)
    await orders.create(Order(order_id="a"))
    want = Want(queues=(QueueWant("orders", 1),), limit=1, lease=30.0, instance="i-1", worker="w")
    assert len((await orders.claim(want)).items) == 1
    for _ in range(4):
        assert await orders.other_leases(30.0) == []
        assert await orders.other_leases(15.0) == [30.0]
        clock.advance(11.0)
        await orders.heartbeat(Beat(instance=Instance(id="i-1", worker="w"), lease=30.0))
    clock.advance(31.0)  # it lives no more: its lease binds nobody
    assert await orders.other_leases(15.0) == []
    await orders.close()
