"""One job alone takes the shortest way. It is stored as by any other way, and whatever must be known of it is."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from holdfast.errors import ContentError, StoreUnavailable, TaskInactive
from holdfast.job import commands as c
from holdfast.job.commands import Define
from holdfast.job.model import FreshJob, NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.stores.sql.postgresql import PostgresStore
from tests.sql.core.dialogue import AWAY, insist
from tests.sql.postgresql.harness import DatabaseHarness
from tests.sql.postgresql.test_losses import opened, through
from tests.sql.postgresql.test_opening import run_sql
from tests.support.proxy import Proxy
from tests.support.servers.postgres import PostgresServer

STOP = c.ChangeDefinition(alias="t", status="canceled")
_numbers = itertools.count()


def fresh(**fields: Any) -> FreshJob:
    """A job whose id was made for its enqueue."""
    return FreshJob(**{"id": f"fresh-{next(_numbers)}", "task": "t", "payload": b"1", **fields})


def one_of(h: DatabaseHarness) -> PostgresStore:
    """The store of a harness."""
    store = h.store
    assert isinstance(store, PostgresStore)
    return store


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"payload": b"", "priority": 3},
        {"tags": ("a",), "headers": b"{}", "timeout": 2.5, "retry": RetryPolicy(max_attempts=2)},
        {"delay": 60.0},
        {"run_at": 1.0},
        {"key": "k"},
        {"unique": "u"},
        {"queue": "another"},
    ],
)
async def test_one_job_is_stored_as_a_batch_stores_it(h: DatabaseHarness, fields: dict[str, Any]) -> None:
    text = "SELECT to_jsonb(j) - 'seq' - 'id' FROM holdfast_job AS j"
    await h.store.enqueue([NewJob(id="of-a-batch", task="t", **{"payload": b"1", **fields})])
    expected = await run_sql(h.url, text)
    await run_sql(h.url, "DELETE FROM holdfast_job")
    for _ in range(3):  # the first asks for its queue, the others know it
        answer = await one_of(h).enqueue_one(fresh(**fields))
        assert answer.verdict is c.Verdict.NEW
        assert await h.store.jobs([answer.id]) == [answer.job]
        assert await run_sql(h.url, text) == expected
        await run_sql(h.url, "DELETE FROM holdfast_job")


async def test_one_job_that_no_store_could_keep_is_refused(h: DatabaseHarness) -> None:
    store = one_of(h)
    await store.enqueue_one(fresh())
    kinds: tuple[dict[str, Any], ...] = (
        {"id": "\ud800"},
        {"id": 7},
        {"payload": "text"},
        {"queue": "\ud800"},
        {"queue": []},
    )
    for wrong in kinds:
        with pytest.raises(ContentError):
            await store.enqueue_one(fresh(**wrong))


async def test_a_task_that_this_process_stops_takes_no_more_jobs_from_now_on(h: DatabaseHarness) -> None:
    store = one_of(h)
    await store.define([Define(alias="t")])
    for _ in range(3):
        await store.enqueue_one(fresh())
    await store.change_definition(STOP)
    with pytest.raises(TaskInactive):
        await store.enqueue_one(fresh())


async def test_a_task_that_another_process_stops_is_known_to_be_after_a_moment_and_its_jobs_wait(
    h: DatabaseHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("holdfast.stores.sql.postgresql_one.monotonic", lambda: now)
    store, other = one_of(h), DatabaseHarness(h.url, h.clock)
    await other.open()
    await other.store.define([Define(alias="t")])
    await store.enqueue_one(fresh())
    await store.enqueue_one(fresh())
    await other.store.change_definition(STOP)
    between = await store.enqueue_one(fresh())
    assert await other.claim_ids(5) == [], "a job of a stopped task was handed out"
    assert await h.state(between.id) is State.PAUSED
    now += 0.5
    with pytest.raises(TaskInactive):
        await store.enqueue_one(fresh())
    await other.close()


async def test_a_queue_that_was_deleted_comes_into_being_again(h: DatabaseHarness) -> None:
    store = one_of(h)
    for _ in range(2):
        await store.enqueue_one(fresh(queue="q"))
    await h.run_all(queues=("q",))
    await store.delete_queue("q")
    await store.enqueue_one(fresh(queue="q"))
    assert "q" in {queue.name for queue in await store.queues()}


async def test_one_whose_answer_was_lost_is_stored_once_and_found(server: PostgresServer, url: str) -> None:
    async with Proxy(server.upstream) as proxy, opened(through(proxy, url)) as store:
        assert isinstance(store, PostgresStore)
        await store.enqueue_one(fresh())
        await store._announcer.close()
        for point in range(0, 120, 3):
            before = proxy.carried["down"]
            await insist(lambda: store.enqueue_one(fresh()))
            await store._announcer.close()
            whole = proxy.carried["down"] - before
            proxy.cut_after("down", 1 + point % whole)
            new = fresh()
            answer = await insist(lambda new=new: store.enqueue_one(new))  # type: ignore[misc]
            await store._announcer.close()
            assert (answer.id, answer.verdict) == (new.id, c.Verdict.NEW)
        assert (await store.stats()).total(State.QUEUED) == 81


async def test_one_that_is_never_answered_is_given_up(server: PostgresServer, url: str) -> None:
    hasty = {"statement_timeout": 0.3, "connect_timeout": 0.3, "patience": 0.1}
    async with Proxy(server.upstream) as proxy, opened(through(proxy, url, **hasty)) as store:
        assert isinstance(store, PostgresStore)
        for _ in range(3):
            await store.enqueue_one(fresh())
        await store._announcer.close()
        proxy.silence()
        with pytest.raises(AWAY):
            async with asyncio.timeout(10.0):  # so that who waits for ever is told apart
                await store.enqueue_one(fresh())
        proxy.silence(silent=False)
        await insist(lambda: store.enqueue_one(fresh()))


async def test_one_whose_caller_leaves_is_no_answer_for_the_next(url: str) -> None:
    async with opened(f"{url}&pool_size=1") as store:
        assert isinstance(store, PostgresStore)
        await store.enqueue_one(fresh())
        for number in range(30):
            task = asyncio.create_task(store.enqueue_one(fresh()))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            answer = await store.enqueue_one(fresh(id=f"kept-{number}"))
            assert [job.id for job in await store.jobs([answer.id]) if job is not None] == [f"kept-{number}"]


async def test_a_statement_that_the_server_has_forgotten_is_prepared_anew(h: DatabaseHarness) -> None:
    store = one_of(h)
    for _ in range(3):
        await store.enqueue_one(fresh())
    hot = store._postgres._hot
    assert hot is not None
    connection = await hot.take()
    await connection.execute("DEALLOCATE ALL")
    hot.give(connection)
    answers = [await insist(lambda: store.enqueue_one(fresh())) for _ in range(3)]
    assert all(answer.verdict is c.Verdict.NEW for answer in answers)
    assert (await store.stats()).total(State.QUEUED) == 6


async def test_a_store_that_is_closed_says_so(h: DatabaseHarness) -> None:
    store = one_of(h)
    await store.enqueue_one(fresh())
    await store.close()
    with pytest.raises(Exception, match="not open") as caught:
        await store.enqueue_one(fresh())
    assert not isinstance(caught.value, StoreUnavailable)
