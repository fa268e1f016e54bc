"""Connections and servers that go away: nothing is lost, nothing is done twice, and work goes on when they are back."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import DuplicateJob, OutcomeUnknown, StoreUnavailable
from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.store import Store
from holdfast.stores.sql.drivers.asyncpg import BEGIN
from tests.features import feature
from tests.sql.core.dialogue import AWAY, ended_well, insist, life, want
from tests.sql.postgresql.harness import DatabaseHarness, at_port
from tests.support.proxy import Direction, Proxy
from tests.support.servers.postgres import PostgresServer


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store on the machine's clock."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def through(proxy: Proxy, url: str, **options: object) -> str:
    """The URL of a database by way of a proxy."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{at_port(url, proxy.port)}&{query}"


# --- a cut at any byte (T25) ---------------------------------------------------------------------------------------


async def cut_everywhere(server: PostgresServer, url: str, direction: Direction, points: int) -> None:
    """Cut a job's whole life after so and so many bytes, for `points` numbers of bytes: it succeeds once all the same."""
    async with Proxy(server.upstream) as proxy:
        async with opened(through(proxy, url)) as store:
            before = dict(proxy.carried)
            await life(store, "whole", "whole")
            length = proxy.carried[direction] - before[direction]
        ids = []
        for point in range(points):
            proxy.cuts = 0
            async with opened(through(proxy, url)) as store:
                proxy.cut_after(direction, 1 + point * length // points)
                ids.append(f"cut-{direction}-{point}")
                settled = await life(store, ids[-1], ids[-1])
            assert {str(one.accepted) for one in settled} <= {"applied", "repeated"}
    async with opened(url) as store:
        for job in await ended_well(store, ids):
            assert [one.number for one in job.attempts] == list(range(1, job.attempt + 1))


@feature("T16")
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_job_ends_once_wherever_its_dialogue_is_cut(
    server: PostgresServer, url: str, direction: Direction
) -> None:
    await cut_everywhere(server, url, direction, 100)


@pytest.mark.soak
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_job_ends_once_at_each_byte_of_its_dialogue(
    server: PostgresServer, url: str, direction: Direction
) -> None:
    await cut_everywhere(server, url, direction, 2_000)


@pytest.mark.parametrize("own_id", [False, True])
async def test_an_enqueue_whose_commit_was_not_answered_is_found_by_its_ids_and_not_refused(
    server: PostgresServer, url: str, own_id: bool
) -> None:
    def jobs(number: int) -> list[NewJob]:
        keys = (None, "k", "k")
        return [NewJob(id=f"job-{number}-{part}", task="t", own_id=own_id, key=key) for part, key in enumerate(keys)]

    async with Proxy(server.upstream) as proxy, opened(through(proxy, url)) as store:
        answers: list[c.Enqueued] = []
        for number in range(0, 72, 3):
            answers += await insist(lambda number=number: store.enqueue(jobs(number)))  # type: ignore[misc]
            before = proxy.carried["down"]  # on a warm connection
            answers += await insist(lambda number=number: store.enqueue(jobs(number + 1)))  # type: ignore[misc]
            whole = proxy.carried["down"] - before
            # One of the last bytes, among them the answer to the commit.
            proxy.cut_after("down", max(1, whole - number // 3))
            answers += await insist(lambda number=number: store.enqueue(jobs(number + 2)))  # type: ignore[misc]
        assert [one.id for one in answers] == [f"job-{number}-{part}" for number in range(72) for part in range(3)]
        assert {one.verdict for one in answers} == {c.Verdict.NEW}
        assert (await store.stats()).total(State.QUEUED) == 216
        if own_id:
            with pytest.raises(DuplicateJob):
                await store.enqueue(jobs(0))


# --- servers that end (T22) ----------------------------------------------------------------------------------------


async def work_on(store: Store, ids: list[str], stop: asyncio.Event) -> None:
    """Live one job after the other until told to stop; note each id before it is stored."""
    while not stop.is_set():
        ids.append(f"job-{random.getrandbits(60)}")
        await life(store, ids[-1], ids[-1])


@feature("T16")
async def test_backends_that_are_terminated_all_the_time_lose_and_repeat_nothing(
    own_server: PostgresServer, durable: str
) -> None:
    stop = asyncio.Event()
    ids: list[list[str]] = [[] for _ in range(4)]
    async with opened(durable) as store:
        workers = [asyncio.create_task(work_on(store, mine, stop)) for mine in ids]
        for _ in range(30):
            await asyncio.to_thread(
                own_server.sql,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast'",
            )
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*workers)
        await ended_well(store, [job_id for mine in ids for job_id in mine])


@feature("T16")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_a_server_that_ends_and_comes_back_loses_and_repeats_nothing(
    own_server: PostgresServer, durable: str, how: signal.Signals
) -> None:
    stop = asyncio.Event()
    ids: list[list[str]] = [[] for _ in range(4)]
    async with opened(durable) as store:
        workers = [asyncio.create_task(work_on(store, mine, stop)) for mine in ids]
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(own_server.kill if how is signal.SIGKILL else lambda: own_server.stop(how))
            await asyncio.sleep(0.1)
            own_server.start()  # in this thread: the server ends with the one that started it
            done = [len(mine) for mine in ids]
            async with asyncio.timeout(60):
                # Work goes on.
                while any(len(mine) < before + 2 for mine, before in zip(ids, done, strict=True)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*workers)
        await ended_well(store, [job_id for mine in ids for job_id in mine])


async def test_a_call_waits_a_little_for_a_server_that_restarts_and_then_says_that_it_is_away(
    own_server: PostgresServer, durable: str
) -> None:
    async with opened(f"{durable}&patience=60") as patient, opened(f"{durable}&patience=0.1") as hasty:
        await asyncio.to_thread(own_server.stop)
        waiting = asyncio.create_task(patient.stats())
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await hasty.stats()
        assert not waiting.done()
        own_server.start()  # in this thread: the server ends with the one that started it
        assert (await waiting).total(State.QUEUED) == 0
        await insist(hasty.stats)


# --- what is not answered ------------------------------------------------------------------------------------------


async def test_a_statement_that_is_never_answered_is_given_up(server: PostgresServer, url: str) -> None:
    hasty = {"statement_timeout": 0.3, "connect_timeout": 0.3, "patience": 0.1}
    async with Proxy(server.upstream) as proxy, opened(through(proxy, url, **hasty)) as store:
        await store.stats()
        proxy.silence()
        with pytest.raises(AWAY):
            await store.enqueue([NewJob(id="unheard", task="t")])
        proxy.silence(silent=False)
        [answer] = await insist(lambda: store.enqueue([NewJob(id="unheard", task="t")]))
        assert answer.id == "unheard"


async def test_a_process_that_stands_still_in_a_transaction_keeps_its_locks_for_a_moment_only(url: str) -> None:
    async with opened(url) as frozen, opened(url) as other:
        await other.enqueue([NewJob(id="one", task="t")])
        driver = frozen._driver  # type: ignore[attr-defined]
        connection = await driver.connect()
        await connection.execute(BEGIN)  # as each of our transactions begins
        await connection.execute("SELECT FROM holdfast_job FOR UPDATE")
        order = c.Order(action=c.Cancel(), selection=c.Selection(ids=("one",)), who="ann")
        answer = await asyncio.wait_for(other.control(order), 60.0)
        assert answer.done == 1
        connection.terminate()


async def test_a_caller_who_is_cancelled_leaves_a_connection_that_nobody_mistakes(url: str) -> None:
    async with opened(f"{url}&pool_size=1") as store:
        await store.enqueue([NewJob(id=f"job-{number}", task="t") for number in range(50)])
        for number in range(30):
            task = asyncio.create_task(store.jobs([f"job-{number}"]))
            await asyncio.sleep(0.0002 * (number % 7))
            task.cancel()
            await asyncio.wait([task])
            [found] = await store.jobs([f"job-{number + 1}"])
            assert found is not None
            assert found.id == f"job-{number + 1}", "an answer went to the next caller"


async def test_a_claim_whose_answer_was_lost_says_that_its_outcome_is_unknown(server: PostgresServer, url: str) -> None:
    # Another store enqueues: this one has no notification under way that the cut could hit instead.
    async with opened(url) as producer:
        await producer.enqueue([NewJob(id="one", task="t")])
    async with Proxy(server.upstream) as proxy, opened(through(proxy, url)) as store:
        await store.claim(want("other", "i1"))
        proxy.cut_after("down", 1)
        with pytest.raises(OutcomeUnknown, match="Ask by the job's id"):
            await store.claim(want("default", "i1"))


# --- deadlocks -----------------------------------------------------------------------------------------------------


async def test_transactions_that_lock_in_opposite_order_are_repeated_and_not_surfaced(url: str) -> None:
    harness = DatabaseHarness(url)
    await harness.open()
    jobs = await harness.add_many(40, key="k")
    ids = [job.id for job in jobs]

    async def hold(order: list[str]) -> None:
        for _ in range(5):
            await harness.store.control(c.Order(action=c.Pause(), selection=c.Selection(ids=tuple(order)), who="ann"))
            await harness.store.control(c.Order(action=c.Resume(), selection=c.Selection(ids=tuple(order)), who="ann"))

    await asyncio.gather(hold(ids), hold(ids[::-1]), hold(ids[::2]), hold(ids[::-3]))
    assert {await harness.state(job_id) for job_id in ids} == {State.QUEUED}
    await harness.close()
