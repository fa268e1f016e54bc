"""What is enqueued, or settled, through the user's connection is in the user's transaction: every kind of handle."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast.errors import DuplicateJob, TaskInactive, UsageError
from holdfast.job.commands import Accepted, ChangeDefinition, Define, Enqueued, Failed, Settlement, Succeeded, Verdict
from holdfast.job.model import NewJob, OnConflict
from holdfast.job.state import State
from holdfast.testing.contract.harness import ERROR, StoreHarness
from tests.features import feature
from tests.sql.handles.clients import AsyncAlchemy, Client
from tests.sql.handles.places import Place

#: A statement that lets a transaction see one moment only.
OLD_VIEW = {
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "mysql": "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
}
NAMES = ("plain", "50% off", "naïve 🦆", "it's a \\ quote", "x" * 5_000)


async def enqueue(h: StoreHarness, client: Client, *jobs: NewJob) -> list[Enqueued]:
    store: Any = h.store
    answer: Awaitable[list[Enqueued]] = store.enqueue_within(client.tx, jobs)
    return await answer


def jobs_of(h: StoreHarness) -> tuple[NewJob, ...]:
    """Jobs of every kind: plain ones, and those that go by the rules."""
    return (
        *(h.new(payload=name.encode(), queue="mail") for name in NAMES),
        h.new(payload=b"\x00\xff", priority=7, delay=5.0),
        h.new(key="naïve 50%", tags=("a", "b"), headers=b'{"x":1}'),
        h.new(unique="once", unique_window=60.0, on_conflict=OnConflict.KEEP),
        h.new(id="my own % id", own_id=True),
    )


@feature("T10", "T25")
async def test_a_commit_stores_the_job_and_the_users_row_together(
    h: StoreHarness, client: Client, place: Place
) -> None:
    await client.do("INSERT INTO orders (name) VALUES ('tea')")
    wanted = jobs_of(h)
    answers = await enqueue(h, client, *wanted)
    assert [answer.verdict for answer in answers] == [Verdict.NEW] * len(wanted)
    assert await h.store.jobs([job.id for job in wanted]) == [None] * len(wanted)
    if client.database != "sqlite":  # there, one writes at a time
        assert await h.claim(queues=("mail",)) == ()
    await client.commit()
    stored = await h.store.jobs([job.id for job in wanted])
    assert [(job.id, job.payload) for job in stored if job is not None] == [(job.id, job.payload) for job in wanted]
    assert stored == [answer.job for answer in answers]
    assert await place.orders() == ["tea"]
    assert await h.claim_ids(queues=("mail",)) == [job.id for job in wanted[: len(NAMES)]]
    assert h.faults() == []


@feature("T10", "T25")
@pytest.mark.parametrize("first", ["writes", "has executed nothing"])
async def test_a_rollback_leaves_nothing(h: StoreHarness, client: Client, place: Place, first: str) -> None:
    # A session that has executed nothing yet is the trap: its raw connection is outside of its transaction.
    if first == "writes":
        await client.do("INSERT INTO orders (name) VALUES ('tea')")
    await enqueue(h, client, *jobs_of(h))
    await client.rollback()
    assert await h.all_jobs() == []
    assert await h.claim(queues=("mail", "default")) == ()
    assert await place.orders() == []
    assert h.faults() == []


@feature("T10")
async def test_a_connection_can_be_used_for_one_transaction_after_another(h: StoreHarness, client: Client) -> None:
    if "Asyncpg" in type(client).__name__ and not isinstance(client, AsyncAlchemy):
        pytest.skip("each transaction of asyncpg is an object of its own")
    kept = []
    for number in range(4):
        [answer] = await enqueue(h, client, h.new())
        if number % 2:
            await client.rollback()
        else:
            await client.commit()
            kept.append(answer.id)
    assert [job.id for job in await h.all_jobs()] == kept


@feature("T10")
async def test_many_jobs_go_in_one_call(h: StoreHarness, client: Client) -> None:
    await enqueue(h, client, *(h.new(payload=str(number).encode()) for number in range(2_500)))
    await client.commit()
    assert (await h.store.stats()).total(State.QUEUED) == 2_500
    assert len(await h.claim_ids(limit=100)) == 100


@feature("T10", "T25")
async def test_a_transaction_that_sees_an_old_moment_stores_plain_jobs_and_no_others(
    h: StoreHarness, client: Client
) -> None:
    """It does not see that a unique key was taken, or that the first job of a line has ended: the next would never run."""
    if client.database == "sqlite":
        pytest.skip("one writes at a time there")
    await h.add(key="k")
    await client.do(OLD_VIEW[client.database])
    await client.do("SELECT 1 FROM orders")
    await h.settle(await h.claim_one())
    for new in (h.new(key="k"), h.new(unique="u"), h.new(id="mine", own_id=True)):
        with pytest.raises(UsageError, match="READ COMMITTED, found REPEATABLE READ"):
            await enqueue(h, client, new)
    await enqueue(h, client, h.new())
    await client.commit()
    assert [job.state for job in await h.all_jobs()] == [State.SUCCEEDED, State.QUEUED]
    assert h.faults() == []


@feature("T10", "TW4")
async def test_a_refusal_is_raised_and_leaves_the_transaction_usable(
    h: StoreHarness, client: Client, place: Place
) -> None:
    await h.store.enqueue([h.new(id="taken", own_id=True), h.new(unique="u")])
    await h.store.define([Define(alias="off")])
    await h.store.change_definition(ChangeDefinition(alias="off", status="canceled"))
    await client.do("INSERT INTO orders (name) VALUES ('tea')")
    with pytest.raises(DuplicateJob, match="taken"):
        await enqueue(h, client, h.new(), h.new(id="taken", own_id=True))
    with pytest.raises(DuplicateJob):
        await enqueue(h, client, h.new(), h.new(unique="u"))
    with pytest.raises(TaskInactive):
        await enqueue(h, client, h.new(task="off"))
    [answer] = await enqueue(h, client, h.new())
    await client.commit()
    assert await place.orders() == ["tea"]
    assert len(await h.all_jobs()) == 3
    assert (await h.job(answer.id)).state is State.QUEUED


@feature("T10")
async def test_a_connection_to_another_database_is_refused_and_stays_usable(
    h: StoreHarness, kind: type[Client], place_of: Callable[[str, str], Place]
) -> None:
    other = place_of(kind.database, "other")
    second = other.store()
    await second.open()
    await other.make_orders()
    client = kind(other)
    await client.open()
    try:
        await client.do("INSERT INTO orders (name) VALUES ('tea')")
        with pytest.raises(UsageError, match="the store's own database"):
            await enqueue(h, client, h.new())
        await client.commit()
        assert await other.orders() == ["tea"]
        assert await second.all_jobs() == [] == await h.all_jobs()
    finally:
        await client.end()
        await second.close()


@feature("T10")
async def test_a_connection_to_a_database_without_our_tables_is_refused(
    h: StoreHarness, kind: type[Client], place_of: Callable[[str, str], Place]
) -> None:
    store: Any = h.store
    await h.add()
    claim = await h.claim_one()
    bare = place_of(kind.database, "bare")
    await bare.make_orders()
    client = kind(bare)
    await client.open()
    try:
        await client.do("INSERT INTO orders (name) VALUES ('tea')")
        with pytest.raises(UsageError, match="the store's own database"):
            await enqueue(h, client, h.new())
        with pytest.raises(UsageError, match="the store's own database"):
            await store.settle_within(client.tx, [Settlement(claim, Succeeded(b"1"))])
        assert await h.state(claim.id) is State.RUNNING
        await client.commit()
        assert await bare.orders() == ["tea"]
    finally:
        await client.end()


@feature("T10")
async def test_a_closed_connection_is_refused(h: StoreHarness, client: Client) -> None:
    store: Any = h.store
    running = await h.add()
    claim = await h.claim_one()
    await enqueue(h, client, h.new())
    await client.rollback()
    await client.close()
    if "Session" in type(client).__name__:
        # A session that was closed is a fresh one to SQLAlchemy, and can not be told from one: what it then does is in a
        # new transaction. One that was closed for good is refused: see test_refusals.py.
        await enqueue(h, client, h.new())
        await client.rollback()
    else:
        with pytest.raises(UsageError, match="found a closed one"):
            await enqueue(h, client, h.new())
        with pytest.raises(UsageError, match="found a closed one"):
            await store.settle_within(client.tx, [Settlement(claim, Succeeded(b"1"))])
    assert [(job.id, job.state) for job in await h.all_jobs()] == [(running.id, State.RUNNING)]


@feature("T10")
async def test_a_connection_without_a_transaction_is_refused(h: StoreHarness, kind: type[Client], place: Place) -> None:
    client = kind(place)
    await client.open_without_transaction()
    try:
        with pytest.raises(UsageError, match="open transaction"):
            await enqueue(h, client, h.new())
    finally:
        await client.end()
    assert await h.all_jobs() == []


@feature("T22")
async def test_a_commit_wakes_who_waits(h: StoreHarness, client: Client) -> None:
    claims = await h.wanted(1)
    waiting = asyncio.create_task(h.store.wait((h.queue,), claims.cursor, 60.0))
    await enqueue(h, client, h.new())
    await client.commit()
    if client.wakes or client.database != "mysql":
        assert await waiting is True
    else:
        # MySQL tells nobody: whoever waits is woken by the pulse that the next look finds.
        waiting.cancel()
        await asyncio.wait([waiting])
    assert len(await h.claim()) == 1


# --- settle


@feature("T10", "TW2")
async def test_a_settle_counts_with_the_commit_and_not_without(h: StoreHarness, client: Client, place: Place) -> None:
    store: Any = h.store
    await h.add_many(2)
    kept, dropped = await h.claim(2)
    await client.do("INSERT INTO orders (name) VALUES ('tea')")
    [settled] = await store.settle_within(client.tx, [Settlement(kept, Succeeded(b'"fine"'))])
    assert settled.accepted is Accepted.APPLIED
    assert await h.state(kept.id) is State.RUNNING
    await client.commit()
    job = await h.job(kept.id)
    assert (job.state, job.result) == (State.SUCCEEDED, b'"fine"')
    assert (await h.settle(kept, Succeeded(b'"fine"'))).accepted is Accepted.REPEATED
    if "Asyncpg" in type(client).__name__ and not isinstance(client, AsyncAlchemy):
        client = type(client)(place)
        await client.open()
    await store.settle_within(client.tx, [Settlement(dropped, Failed(ERROR, retryable=False))])
    await client.rollback()
    await client.end()
    assert await h.state(dropped.id) is State.RUNNING
    assert (await h.settle(dropped)).accepted is Accepted.APPLIED
    assert h.faults() == []


@feature("T10", "TW2")
async def test_a_settle_of_a_stale_token_is_refused(h: StoreHarness, client: Client) -> None:
    store: Any = h.store
    await h.add()
    stale = await h.claim_one()
    await h.lose()
    fresh = await h.claim_one(instance="i2")
    [settled] = await store.settle_within(client.tx, [Settlement(stale, Succeeded(b"1"))])
    assert settled.accepted is Accepted.STALE
    await client.rollback()
    assert (await h.settle(fresh, Succeeded(b"2"))).accepted is Accepted.APPLIED
    assert (await h.job(fresh.id)).result == b"2"
