"""A transaction of the caller's may stay open for long. Nobody waits for it who has nothing to do with its jobs."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from holdfast.job.commands import Ending, Failed, JobFilter, Page, Settlement, Snoozed, Succeeded
from holdfast.job.retry import RetryPolicy
from holdfast.testing.contract.harness import ERROR, StoreHarness
from tests.features import feature
from tests.sql.handles.clients import Asyncpg, Client, PyMysql
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace

#: Longer than any call takes; whoever waits for the transaction waits for ever.
BOUND = 15.0
#: More than there are places in which a process counts its news, one after the other.
TURNS = 70

_NUMBERS = itertools.count(10_000, 10_000)

Use = Callable[[StoreHarness, Client], Coroutine[Any, Any, None]]


@pytest.fixture(params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A database where several write at a time."""
    made: Place = {"postgresql": PostgresPlace, "mysql": MysqlPlace}[request.param]()
    yield made
    made.end()


@pytest.fixture
async def stores(place: Place) -> AsyncIterator[tuple[StoreHarness, StoreHarness]]:
    """The store of whoever has the transaction, and that of another process."""
    mine, other = place.store(), place.store()
    # Databases are used again: an id of an earlier test would be looked up beside what is left of it.
    mine._made, other._made = next(_NUMBERS), next(_NUMBERS)
    await mine.open()
    await other.open()
    yield mine, other
    await mine.close()
    await other.close()


def enqueues(**fields: Any) -> Use:
    async def use(h: StoreHarness, client: Client) -> None:
        store: Any = h.store
        await store.enqueue_within(client.tx, [h.new(**fields)])

    return use


def settles(ending: Ending, **fields: Any) -> Use:
    async def use(h: StoreHarness, client: Client) -> None:
        store: Any = h.store
        await h.add(queue="mine", **fields)
        claim = await h.claim_one("mine", queues=("mine",))
        await store.settle_within(client.tx, [Settlement(claim, ending)])

    return use


USES: dict[str, Use] = {
    "a plain job": enqueues(),
    "an own id": enqueues(own_id=True),
    "a unique key": enqueues(unique="within"),
    "a key": enqueues(key="within"),
    "a success": settles(Succeeded(b"1")),
    "a success with keys": settles(Succeeded(b"1"), key="within", unique="within"),
    "a failure": settles(Failed(ERROR)),
    "the last failure": settles(Failed(ERROR), retry=RetryPolicy(max_attempts=1)),
    "a snooze": settles(Snoozed(5.0)),
}


@feature("T10", "T25")
@pytest.mark.parametrize("use", USES)
async def test_nobody_waits_for_a_slow_transaction_of_a_caller(
    stores: tuple[StoreHarness, StoreHarness], place: Place, use: str
) -> None:
    mine, other = stores
    await other.add()  # the queue is there
    client = PyMysql(place) if isinstance(place, MysqlPlace) else Asyncpg(place)
    await client.open()
    try:
        await USES[use](mine, client)
        async with asyncio.timeout(BOUND):
            for h, instance in ((other, "o"), (mine, "m")):
                await live_through(h, instance)
            for turn in range(TURNS):
                await other.add(key=f"k{turn}" if turn % 10 == 0 else None)
    finally:
        await client.rollback()
        await client.end()
    assert mine.faults() == []


async def live_through(h: StoreHarness, instance: str) -> None:
    """All that a process does beside: in the same queue, with the same task."""
    await h.beat(instance)
    for fields in ({}, {"unique": f"u-{instance}"}, {"key": f"k-{instance}"}, {"own_id": True}):
        await h.add(**fields)
    once = RetryPolicy(max_attempts=1)
    await h.add(retry=once)
    for ending in (Succeeded(b"1"), Succeeded(b"2"), Snoozed(5.0), Failed(ERROR), Failed(ERROR)):
        await h.settle(await h.claim_one(instance), ending)
    await h.store.rescue()
    await h.store.find(JobFilter(), Page(limit=10))
