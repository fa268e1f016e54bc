"""Wake-up by LISTEN and NOTIFY: at once while it works, healed when it breaks, with a look behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast.chance import IdMaker, SystemDraw
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import StoreUnavailable
from holdfast.job import commands as c
from holdfast.job.model import NewJob, Schedule, ScheduleStatus
from holdfast.schedule import steering
from holdfast.schedule.scheduler import POLL, firing
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.drivers.asyncpg import PostgresOptions
from holdfast.stores.sql.notify import Announcer
from holdfast.stores.sql.postgresql import PostgresStore
from holdfast.stores.sql.script import Step
from tests.features import feature
from tests.sql.core.dialogue import beat, insist, want
from tests.sql.postgresql.harness import at_port
from tests.support.proxy import Proxy
from tests.support.servers.postgres import GivenPostgres, PostgresServer

#: Longer than any test waits: who returns before was woken.
LONG = 600.0


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[PostgresStore]:
    store = make_store(url, clock=SystemClock(), **options)
    assert isinstance(store, PostgresStore)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def through(proxy: Proxy, url: str) -> str:
    return f"{at_port(url, proxy.port)}&connect_timeout=1&patience=0.1"


async def eventually(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not look():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.005)


async def waiting(store: PostgresStore) -> asyncio.Task[bool]:
    """Begin to wait for what comes after a claim that found nothing; return when it listens."""
    cursor = (await insist(lambda: store.claim(want("default", "i")))).cursor
    task = asyncio.create_task(store.wait(["default"], cursor, LONG))
    await eventually(lambda: store.listening or task.done())
    if task.done():  # anything may have come while nobody listened: ask again, as a worker does
        return await waiting(store)
    return task


async def woken(task: asyncio.Task[bool]) -> bool:
    async with asyncio.timeout(60):
        return await task


@feature("T2")
async def test_a_waiting_worker_is_woken_by_another_process(url: str) -> None:
    async with opened(url) as worker, opened(url) as producer:
        task = await waiting(worker)
        await producer.enqueue([NewJob(id="one", task="t")])
        assert await woken(task)
        assert [claim.id for claim in (await worker.claim(want("default", "i"))).items] == ["one"]


async def test_a_process_is_not_woken_by_its_own_news_a_second_time(url: str) -> None:
    news: list[object] = []
    other = await asyncpg.connect(url)
    async with opened(url) as worker:
        await other.add_listener(worker.channel, lambda *told: news.append(told[-1]))
        task = await waiting(worker)
        await worker.enqueue([NewJob(id="one", task="t")])
        assert await woken(task)
        seen, ends = (await worker.claim(want("default", "i"))).cursor, worker._ends.count
        await eventually(lambda: bool(news))
        await other.execute("SELECT pg_notify($1, 'e')", worker.channel)  # comes behind the worker's own
        await eventually(lambda: worker._ends.count > ends)
        assert worker._work.count == seen
    await other.close()


async def test_a_burst_wakes_for_its_last_job_too_though_it_is_announced_once_or_twice(
    server: PostgresServer, url: str
) -> None:
    news: list[object] = []
    listener = await asyncpg.connect(url)
    async with opened(url) as worker, opened(url) as producer:
        await listener.add_listener(producer.channel, lambda *told: news.append(told[-1]))
        got: set[str] = set()
        task = await waiting(worker)
        await asyncio.gather(*(producer.enqueue([NewJob(id=f"job-{number}", task="t")]) for number in range(100)))
        assert await woken(task)
        async with asyncio.timeout(60):
            while len(got) < 100:
                claims = await worker.claim(want("default", "i", 30))
                got |= {claim.id for claim in claims.items}
                if not claims.items:
                    await worker.wait(["default"], claims.cursor, LONG)
    await listener.close()
    assert 1 <= len([one for one in news if "r" in str(one)]) < 50


async def test_what_happens_while_a_notification_is_fresh_is_told_by_the_next_one() -> None:
    db, sent = PostgresDialect("holdfast_"), list[set[str]]()

    async def send(step: Step) -> None:
        sent.append(set(step.ready))

    def step(*queues: str) -> Step:
        made = Step(db, SystemDraw(SystemClock()))
        made.ready |= set(queues)
        return made

    announcer = Announcer(send, step)
    announcer.tell(step("first"))
    await eventually(lambda: bool(sent))
    announcer.tell(step("second"))
    announcer.tell(step("third"))
    await announcer.close()
    assert sent == [{"first"}, {"second", "third"}]


async def test_who_waits_for_a_job_to_end_hears_of_it_from_another_process(url: str) -> None:
    async with opened(url) as asker, opened(url) as worker:
        await asker.enqueue([NewJob(id="one", task="t")])
        asking = asyncio.create_task(asker.finished(["one"], LONG))
        await eventually(lambda: asker.listening)
        [claim] = (await worker.claim(want("default", "i"))).items
        await worker.settle([c.Settlement(claim, c.Succeeded(b"1"))])
        async with asyncio.timeout(60):
            [job] = await asking
        assert job.result == b"1"


async def test_a_cancel_is_pushed_to_the_process_that_runs_the_job(url: str) -> None:
    asked = asyncio.Event()
    async with opened(url) as worker, opened(url) as operator:
        worker.on_cancel(asked.set)
        task = await waiting(worker)
        asked.clear()
        await operator.enqueue([NewJob(id="one", task="t")])
        await woken(task)
        await worker.claim(want("default", "i"))
        await operator.control(c.Order(action=c.Cancel(), selection=c.Selection(ids=("one",)), who="ann"))
        async with asyncio.timeout(60):
            await asked.wait()
        [held] = (await worker.heartbeat(beat("i"))).held
        assert held.cancel


# --- when it breaks ------------------------------------------------------------------------------------------------


async def test_listening_heals_after_its_connection_was_terminated(server: PostgresServer, url: str) -> None:
    async with opened(url) as worker, opened(url) as producer:
        for number in range(3):
            task = await waiting(worker)
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            assert await woken(task), "what came while nobody listened counts as news"
            task = await waiting(worker)
            await producer.enqueue([NewJob(id=f"job-{number}", task="t")])
            assert await woken(task)
            assert (await worker.claim(want("default", "i"))).items


async def test_a_half_open_socket_is_noticed_and_no_connection_of_the_same_way_is_trusted(
    server: PostgresServer, url: str
) -> None:
    async with (
        Proxy(server.upstream) as proxy,
        opened(url) as producer,
        opened(through(proxy, url), probe_every=0.2, probe_limit=0.2) as worker,
    ):
        task = await waiting(worker)
        await worker.stats()
        proxy.silence()
        stuck = asyncio.create_task(worker.stats())
        await eventually(lambda: not worker.listening)
        proxy.silence(silent=False)
        async with asyncio.timeout(20):  # by itself it would have waited for half a minute
            await asyncio.wait([stuck])
        assert stuck.exception() is None or isinstance(stuck.exception(), StoreUnavailable)
        assert await woken(task)
        task = await waiting(worker)
        await producer.enqueue([NewJob(id="one", task="t")])
        assert await woken(task)


def test_a_half_open_socket_is_noticed_within_fifteen_seconds() -> None:
    options = PostgresOptions()
    assert options.probe_every + options.probe_limit <= 15.0


async def test_work_is_found_though_every_notification_is_lost(server: PostgresServer, url: str) -> None:
    """Rescues look for ready work as well, every four seconds."""
    async with opened(url) as worker:
        task = await waiting(worker)
        server.sql(
            "INSERT INTO holdfast_queue SELECT 'default', 0, NULL, NULL, '\\x80'::bytea WHERE NOT EXISTS"
            " (SELECT FROM holdfast_queue);"
            "INSERT INTO holdfast_job (id, payload, queue, task, prio, state, ready, run_at, created_at, queued_at,"
            " updated_at, lane, pod_epoch, suspect, attempt, token, worker, version, lease_until, cancel_asked)"
            " VALUES ('unheard', '', 'default', 't', 0, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, '', '', 0, 0)",
            urlsplit(url).path.removeprefix("/"),
        )
        assert not task.done()
        await worker.rescue()
        assert await woken(task)
        assert [claim.id for claim in (await worker.claim(want("default", "i"))).items] == ["unheard"]


@feature("T31")
async def test_a_schedule_that_another_process_makes_fires_at_once(url: str) -> None:
    async with opened(url) as here, opened(url) as elsewhere, firing(here, SystemClock(), IdMaker(SystemClock().now)):
        task = await waiting(
            here
        )  # it listens, as every worker does; the scheduler would look again after POLL seconds
        assert here.hears_schedules
        assert not elsewhere.hears_schedules
        made = Schedule(name="s", task="t", rule="every 100ms", max_count=1, status=ScheduleStatus.ACTIVE)
        async with asyncio.timeout(POLL / 2):
            await steering.create(elsewhere, made)
            await task
            while not await elsewhere.count(c.JobFilter(task="t")):  # noqa: ASYNC110 - a store tells of jobs that end alone
                await asyncio.sleep(0.02)


# --- idleness ------------------------------------------------------------------------------------------------------


async def test_an_idle_worker_asks_once_for_a_claim_and_all_upkeep(server: PostgresServer, url: str) -> None:
    """Per rescue (4 s) one statement, per beat (10 s) one: 0.35 a second. A claim after a vain wait asks nothing."""
    database = urlsplit(url).path.removeprefix("/")
    server.sql(f"ALTER DATABASE {database} SET log_statement = 'all'")
    async with opened(url) as worker:
        task = await waiting(worker)
        await worker.heartbeat(beat("i"))  # the first writes the record
        await worker.rescue()  # the first merges figures, which is seldom where no job ends
        task.cancel()
        cursor = (await worker.claim(want("default", "i"))).cursor
        before = len(statements(server))
        for _ in range(10):
            wait = asyncio.create_task(worker.wait(["default"], cursor, 0.05))
            await asyncio.sleep(0)
            await worker.rescue()
            assert not await wait
            assert not (await worker.claim(want("default", "i"))).items
            await worker.heartbeat(beat("i"))
        asked = statements(server)[before:]
        assert len(asked) == 20, asked
        await worker.enqueue([NewJob(id="one", task="t")])
        assert (await worker.claim(want("default", "i"))).items


async def test_a_wait_that_the_worker_ends_itself_is_as_good_as_one_that_ended(
    server: PostgresServer, url: str
) -> None:
    """It does so at about the time at which the wait ends: every other claim of an idle worker would be sent."""
    database = urlsplit(url).path.removeprefix("/")
    server.sql(f"ALTER DATABASE {database} SET log_statement = 'all'")
    async with opened(url) as worker, opened(url) as producer:
        task = await waiting(worker)
        task.cancel()
        cursor = (await worker.claim(want("default", "i"))).cursor
        await worker.rescue()
        before = claims_of(server)
        for _ in range(3):
            wait = asyncio.create_task(worker.wait(["default"], cursor, LONG))
            await asyncio.sleep(0)
            wait.cancel()
            await asyncio.wait([wait])
            assert not (await worker.claim(want("default", "i"))).items
        assert claims_of(server) == before
        await producer.enqueue([NewJob(id="elsewhere", task="t", queue="other")])
        wait = asyncio.create_task(worker.wait(["default"], cursor, LONG))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.wait([wait])
        assert (await worker.claim(want("other", "i"))).items  # of this queue it knows nothing yet


@pytest.mark.parametrize("jobs", [1, 10])
async def test_a_job_costs_no_more_than_two_claims_though_twenty_workers_are_idle(
    server: PostgresServer, url: str, jobs: int
) -> None:
    """That all twenty would go to each job would be 200 claims and more."""
    bursts, database = 10, urlsplit(url).path.removeprefix("/")
    server.sql(f"ALTER DATABASE {database} SET log_statement = 'all'")
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(f"{url}&pool_size=2")) for _ in range(20)]
        producer = await stack.enter_async_context(opened(url))
        herd = [Idle(store, f"i{number:02d}") for number, store in enumerate(stores)]
        for _ in range(2):  # each has to know of all others
            for one in herd:
                await one.store.heartbeat(beat(one.name))
                await one.store.rescue()
        tasks = [asyncio.create_task(one.work()) for one in herd]
        await eventually(lambda: all(one.store.listening for one in herd))
        before = 0
        for number in range(bursts + 2):
            if number == 2:  # the first found them still at the look that each begins with
                before = claims_of(server)
            ids = [f"job-{number}-{place}" for place in range(jobs)]
            await producer.enqueue([NewJob(id=name, task="t") for name in ids])
            assert len(await producer.finished(ids, 60.0)) == jobs
            await eventually(lambda: all(not one.store._listener.herd._timers for one in herd))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    asked = claims_of(server) - before
    assert bursts <= asked <= 2 * bursts * jobs, asked


def claims_of(server: PostgresServer) -> int:
    """How many claims the server was sent."""
    return sum("picked AS MATERIALIZED" in line for line in server_log(server))


class Idle:
    """A worker as it is between two jobs."""

    def __init__(self, store: PostgresStore, name: str) -> None:
        self.store, self.name = store, name

    async def work(self) -> None:
        """Claim and settle; wait when there is nothing."""
        while True:
            found = await self.store.claim(want("default", self.name))
            await self.store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in found.items])
            if not found.items:
                await self.store.wait(["default"], found.cursor, LONG)


def statements(server: PostgresServer) -> list[str]:
    """The statements that the server was sent, as its log tells them."""
    return [line for line in server_log(server) if "LOG:  execute" in line or "LOG:  statement:" in line]


def server_log(server: PostgresServer) -> list[str]:
    """The lines of its log."""
    if isinstance(server, GivenPostgres):
        pytest.skip("the log of a server that somebody else runs is not ours to read")
    return (server.folder / "log").read_text().splitlines()
