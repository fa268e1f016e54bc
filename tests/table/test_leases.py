"""One lease for all services of a table: within a process, and over processes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Engine, String, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from holdfast.clock import ManualClock
from holdfast.errors import ConfigError
from holdfast.job.commands import Beat, Claims, QueueWant, Want
from holdfast.job.model import Instance
from holdfast.job.state import State
from holdfast.table import Handle, TaskMixin, TaskService, TaskTable
from holdfast.table.leases import Leases, OtherLease
from holdfast.worker.hooks import Observer
from tests.features import feature
from tests.table.models import Order
from tests.table.test_service import all_in, until


@pytest_asyncio.fixture
async def orders(engine: Engine | AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


class Looked(Observer):
    """Tells that a service has asked for rows."""

    def __init__(self) -> None:
        self.once = asyncio.Event()

    def claimed(self, claims: Claims[Any], asked: int, seconds: float) -> None:
        self.once.set()


def order_of_another_process() -> Any:
    """Return a model of the same table that knows nothing of this process's services, as one of another process."""

    class Fresh(DeclarativeBase):
        pass

    class Order(TaskMixin, Fresh):
        __tablename__ = "orders"
        order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
        tries: Mapped[int]

    return Order


@feature("G16")
async def test_two_services_of_one_process_need_the_same_lease_whatever_they_hold(
    orders: TaskTable[Order], engine: Engine | AsyncEngine
) -> None:
    another = TaskTable(Order, engine)  # of the same table, as another module of the program makes it
    service, other = TaskService(orders, lambda order, handle: None), TaskService(another, lambda order, handle: None)
    await service.start(lease=30)
    for refused in (other.do_once, other.start, other.run):
        with pytest.raises(ConfigError, match=r"found 60 s here and 30 s in another service of this process"):
            await refused(lease=60)
    await other.stop()  # nothing was started: nothing is raised again
    elsewhere = TaskTable(Order, create_engine("sqlite:///elsewhere.db"))
    elsewhere.leases.join(other, 60.0)  # another database is another table
    elsewhere.leases.leave(other)
    await other.start(lease=30)
    await other.stop()
    await service.stop()
    await other.start(lease=60)
    await other.stop()
    await another.close()


async def test_a_service_with_another_lease_is_refused_as_soon_as_the_other_holds_a_row(
    orders: TaskTable[Order], engine: Engine | AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, hold = TaskTable(order_of_another_process(), engine), asyncio.Event()
    refusals, refusal = [], Leases.refusal

    def refused_once_more(self: Leases, lease: float, others: list[float]) -> OtherLease:
        refusals.append(refusal(self, lease, others))
        return refusals[-1]

    monkeypatch.setattr(Leases, "refusal", refused_once_more)

    async def charge(order: Any, handle: Handle) -> None:
        await hold.wait()

    told: list[str] = []
    first = TaskService(elsewhere, charge)
    looked = Looked()
    service = TaskService(
        orders,
        lambda order, handle: None,
        on_error=lambda _q, _job, error: told.append(str(error)),
        observers=[looked],
    )
    await first.start(lease=60, limit=1, concurrency=1, interval=0.05)
    await service.start(lease=30, interval=3_600)  # nobody holds anything yet
    await looked.once.wait()  # from now on it looks when its own table wakes it
    await elsewhere.create(elsewhere.model(order_id="a", tries=0))
    await until(lambda: _is_running(elsewhere, "a"))
    await orders.create(Order(order_id="b-0"))  # wakes the refused service, which looks again and again

    async def looked_again() -> bool:
        return len(refusals) >= 3

    await until(looked_again)
    assert len(told) == 1
    assert "found 30 s here and 60 s in another process" in told[0]
    for refused in (
        service.do_once(lease=30),
        TaskService(TaskTable(order_of_another_process(), engine), charge).run(lease=15),
    ):
        with pytest.raises(ConfigError, match="60 s in another process, which holds rows now"):
            await refused
    assert (await orders.get("b-0")).task_state is State.QUEUED
    hold.set()
    await first.stop()
    await until(all_in(orders, State.SUCCEEDED, 2))
    await service.stop()
    await elsewhere.close()


async def _is_running(orders: TaskTable[Any], row_id: str) -> bool:
    return (await orders.get(row_id)).task_state is State.RUNNING


@feature("G16", "GW14")
async def test_a_row_that_is_claimed_after_a_look_has_begun_is_not_held_for_longer(
    engine: Engine | AsyncEngine,
) -> None:
    now = ManualClock().now()
    looking, quicker = (TaskTable(Order, engine, clock=ManualClock(at)) for at in (now, now + 5.0))
    await quicker.create(Order(order_id="a"))
    want = Want(queues=(QueueWant("orders", 1),), limit=1, lease=30.0, instance="i-1", worker="w")
    assert len((await quicker.claim(want)).items) == 1
    assert [await looking.other_leases(lease) for lease in (30.0, 15.0, 60.0)] == [[], [30.0], [30.0]]
    for table in (looking, quicker):
        await table.close()


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
