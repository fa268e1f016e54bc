"""Behind a real PgBouncer that lends its connections for one transaction each: a slice of the contract, wake-ups, the
user's transaction, many processes."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import psycopg
import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, DuplicateJob
from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.stores.sql.postgresql import PostgresStore
from holdfast.testing.contract.claims import Claiming
from holdfast.testing.contract.fencing import Fencing
from holdfast.testing.contract.harness import SourceHarness, StoreHarness
from holdfast.testing.contract.unique import UniqueKeys
from tests.features import feature
from tests.sql.core import races
from tests.sql.core.dialogue import want
from tests.sql.postgresql.harness import EMPTY, DatabaseHarness
from tests.sql.postgresql.test_listening import opened, waiting, woken
from tests.support.servers.pgbouncer import need, pooling
from tests.support.servers.postgres import PostgresServer


@pytest.fixture(scope="module")
def own_port(shared: PostgresServer) -> Iterator[int]:
    """The port of a pooler in front of the shared server. It has fewer connections than a store."""
    need()
    with pooling(shared, size=3) as port:
        yield port


def by_pooler(port: int, direct: str, *, listens: bool = True) -> str:
    """The URL of a database by way of the pooler."""
    listening = f"?listen_url={quote(direct, safe='')}" if listens else ""
    return f"postgresql://postgres@127.0.0.1:{port}{urlsplit(direct).path}{listening}"


@pytest.fixture
def pooled(own_port: int, url: str) -> str:
    """The URL of a database with our tables, by way of the pooler."""
    return by_pooler(own_port, url)


# --- a slice of the contract ---------------------------------------------------------------------------------------


class PooledHarness(DatabaseHarness):
    """A store behind the pooler."""

    def __init__(self, port: int, direct: str) -> None:
        super().__init__(by_pooler(port, direct))
        self.direct = direct

    async def open(self) -> None:
        """Empty the database, and open the store."""
        with psycopg.connect(self.direct, autocommit=True) as connection:
            connection.execute(EMPTY)
        await super().open()


@pytest.fixture(scope="module")
def direct(shared: PostgresServer, shared_template: str) -> str:
    """The URL of one database for the slice of the contract."""
    return shared.create_database(template=shared_template)


@pytest.fixture
def store_factory(own_port: int, direct: str) -> Callable[[], StoreHarness]:
    """How to make a store on it, emptied."""
    return functools.partial(PooledHarness, own_port, direct)


@pytest.fixture
def source_factory(store_factory: Callable[[], SourceHarness[Any]]) -> Callable[[], SourceHarness[Any]]:
    """A store is a source too."""
    return store_factory


class TestSourceBehindAPooler(Claiming, Fencing):
    pass


class TestStoreBehindAPooler(UniqueKeys):
    pass


# --- what a pooler takes away --------------------------------------------------------------------------------------


@feature("T2")
async def test_a_pooler_is_recognised_and_no_statement_is_kept_in_its_connections(pooled: str, url: str) -> None:
    async with opened(pooled) as behind, opened(url) as direct, opened(f"{url}&statement_cache_size=50") as told:
        options = [store._postgres.options.statement_cache_size for store in (behind, direct, told)]
        assert options == [0, 200, 50]
        await behind.enqueue([NewJob(id="one", task="t")])
        pooler = pooled.partition("?")[0]
        with psycopg.connect(pooler, prepare_threshold=None) as asker:
            assert asker.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


async def test_what_one_call_sends_is_not_torn_apart_between_the_poolers_connections(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[BaseException] = []
    monkeypatch.setattr(store._postgres, "on_loss", losses.append)  # it would be repeated, and nobody would see it

    async def life(number: int) -> None:
        queue = f"q{number % 4}"
        await store.enqueue([NewJob(id=f"{number}-{part}", task="t", queue=queue) for part in range(5)])
        claims = await store.claim(want(queue, f"i{number}"))
        await store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in claims.items])

    await asyncio.gather(*(life(number) for number in range(100)))
    assert losses == []


@feature("T2")
async def test_a_worker_behind_a_pooler_is_woken_by_what_another_process_enqueues_there(pooled: str) -> None:
    async with opened(pooled) as worker, opened(pooled) as producer:
        task = await waiting(worker)
        await producer.enqueue([NewJob(id="one", task="t")])
        assert await woken(task)
        assert [claim.id for claim in (await worker.claim(want("default", "i"))).items] == ["one"]


async def test_without_a_way_of_its_own_nobody_listens_and_looks_find_the_work(
    own_port: int, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = by_pooler(own_port, url, listens=False)
    async with opened(there) as worker, opened(there) as producer:
        cursor = (await worker.claim(want("default", "i"))).cursor
        with caplog.at_level(logging.WARNING):
            task = asyncio.create_task(worker.wait(["default"], cursor, 600.0))
            await asyncio.sleep(0)
            again = asyncio.create_task(worker.wait(["default"], cursor, 0.0))
            await again
        assert caplog.text.count("Give listen_url=") == 1
        await producer.enqueue([NewJob(id="one", task="t")])
        await worker.rescue()
        assert await woken(task)
        assert not worker.listening
        assert [claim.id for claim in (await worker.claim(want("default", "i"))).items] == ["one"]


async def test_a_process_that_is_told_of_nothing_asks_after_each_wait(own_port: int, url: str) -> None:
    """Also when a look saw nothing a moment ago: what came since it could not know."""
    async with opened(by_pooler(own_port, url, listens=False)) as told, opened(url) as other:
        claims = await told.claim(want("default", "i", 1))
        await told.rescue()
        await other.enqueue([NewJob(id="a", task="t")])
        assert not await told.wait(("default",), claims.cursor, 0.0)
        assert [claim.id for claim in (await told.claim(want("default", "i", 1))).items] == ["a"]


async def test_a_listen_url_of_another_database_is_refused(own_port: int, url: str, empty: str) -> None:
    store = make_store(by_pooler(own_port, url, listens=False), clock=SystemClock(), listen_url=empty)
    with pytest.raises(ConfigError, match="listen_url: expected another way to the database"):
        await store.open()
    await store.close()


# --- the user's transaction ----------------------------------------------------------------------------------------


@pytest.fixture
async def store(pooled: str) -> AsyncIterator[PostgresStore]:
    async with opened(pooled) as found:
        yield found


@feature("T10")
async def test_what_is_enqueued_in_the_users_transaction_through_the_pooler_goes_with_it(
    store: PostgresStore, pooled: str
) -> None:
    pooler = pooled.partition("?")[0]
    connection = await asyncpg.connect(pooler, statement_cache_size=0)
    for number in range(6):
        tx = connection.transaction()
        await tx.start()
        jobs = [NewJob(id=f"a{number}", task="t"), NewJob(id=f"k{number}", task="t", key="k", unique=f"u{number}")]
        await store.enqueue_within(connection, jobs)
        await (tx.commit() if number % 2 else tx.rollback())
    await connection.close()
    with psycopg.connect(pooler, prepare_threshold=None) as sync:
        for number in range(6):
            await store.enqueue_within(sync, [NewJob(id=f"b{number}", task="t")])
            sync.commit() if number % 2 else sync.rollback()
    names = [f"{kind}{number}" for number in range(6) for kind in "akb"]
    found = await store.jobs(names)
    assert [job.id for job in found if job is not None] == [f"{kind}{number}" for number in (1, 3, 5) for kind in "akb"]


# --- large batches -------------------------------------------------------------------------------------------------


async def test_large_batches_through_the_pooler_are_each_stored_as_a_whole_or_not_at_all(store: PostgresStore) -> None:
    """In growing parts of one transaction, more of them than the pooler has connections; one is refused at its end."""

    def batch(name: str, count: int, last: str = "") -> list[NewJob]:
        jobs = [NewJob(id=f"{name}-{number}", task="t") for number in range(count)]
        return [*jobs, NewJob(id=last, task="t", own_id=True)] if last else jobs

    await store.enqueue([NewJob(id="taken", task="t", own_id=True)])
    large, refused, *others = await asyncio.gather(
        store.enqueue(batch("large", 10_000)),
        store.enqueue(batch("refused", 2_000, "taken")),
        *(store.enqueue(batch(f"other{number}", 1_000)) for number in range(4)),
        return_exceptions=True,
    )
    assert isinstance(refused, DuplicateJob)
    assert [len(found) for found in (large, *others) if not isinstance(found, BaseException)] == [10_000, *[1_000] * 4]
    assert (await store.stats()).total(State.QUEUED) == 14_001
    assert await store.jobs(["refused-0", "refused-1999"]) == [None, None]
    claims = (await store.claim(want("default", "i", 500))).items
    assert len(await store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in claims])) == 500


# --- many processes ------------------------------------------------------------------------------------------------


@feature("T16", "TW3")
async def test_each_attempt_is_handed_out_once_to_processes_that_share_its_connections(
    pooled: str, tmp_path: Path
) -> None:
    await races.each_job_is_claimed_once_an_attempt(pooled, tmp_path, racers=3, jobs=600)


async def test_an_export_can_be_switched_on_through_the_pooler(store: PostgresStore, url: str) -> None:
    """It makes an index, which PostgreSQL does outside of a transaction only."""
    await store.start_export()
    with psycopg.connect(url) as asker:
        assert asker.execute("SELECT to_regclass('holdfast_done_xid') IS NOT NULL").fetchone() == (True,)
    await store.stop_export()
