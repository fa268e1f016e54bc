"""The driver: cancelled callers, deadlocks, connections that are lost, servers that say nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import asyncmy
import pymysql
import pytest
from asyncmy import errors as driver_errors
from asyncmy.auth import sha2_rsa_encrypt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.clock import SystemClock
from holdfast.errors import Conflict, OutcomeUnknown, StoreUnavailable
from holdfast.job.commands import JobFilter, OnDuplicate, QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.stores.sql import open_mysql
from holdfast.stores.sql.drivers.asyncmy import AsyncmyDriver
from holdfast.stores.sql.drivers.asyncmy_errors import MEANINGS, as_ours, meaning_of
from holdfast.stores.sql.drivers.meanings import Meaning
from holdfast.stores.sql.script import Row, Script, Statement
from holdfast.stores.sql.store import SqlStore
from tests.features import feature
from tests.sql.mysql.harness import DatabaseHarness, ask, at_port
from tests.support.proxy import Proxy
from tests.support.servers.mariadb import MariaDB

#: Seconds of real time; only keep a broken wait from hanging.
BOUND = 60.0


def driver_of(store: object) -> AsyncmyDriver:
    assert isinstance(store, SqlStore)
    driver = store._driver
    assert isinstance(driver, AsyncmyDriver)
    return driver


def saying(*statements: str) -> Script[list[Row]]:
    """A script of these statements; its answer are the rows of the last."""
    rows: list[Row] = []
    for sql in statements:
        rows = yield Statement(sql)
    return rows


async def shown(server: MariaDB, what: str) -> int:
    """Wait until the server does a statement that begins so; return the number of its connection."""
    text = f"SELECT id FROM information_schema.processlist WHERE info LIKE '{what}%'"
    async with asyncio.timeout(BOUND):
        while not (rows := await asyncio.to_thread(ask, server, None, text)):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)
    return int(rows[0][0])


def test_the_extra_brings_what_accounts_of_mysql_8_need_to_log_in_without_tls() -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert len(sha2_rsa_encrypt(b"secret", b"x" * 20, public)) == 256  # type: ignore[no-untyped-call]


@pytest.fixture
async def narrow(server: MariaDB, url: str) -> AsyncIterator[SqlStore]:
    """A store with one connection."""
    store = open_mysql(url, clock=SystemClock(), pool_size=1)
    await store.open()
    yield store
    await store.close()


# --- cancelled callers ---------------------------------------------------------------------------------------------


@feature("TW3")
async def test_the_query_after_a_cancelled_one_sees_its_own_rows_alone(server: MariaDB, narrow: SqlStore) -> None:
    driver = driver_of(narrow)
    for turn in range(5):
        slow = f"SELECT /* slow {turn} */ 'foreign', SLEEP(30)"
        reading = asyncio.create_task(driver.run(partial(saying, slow), write=turn % 2 == 0))
        number = await shown(server, f"SELECT /* slow {turn}")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await driver.run(partial(saying, f"SELECT 'mine', {turn}")) == [("mine", turn)]
        await asyncio.to_thread(kill, server, number)


def kill(server: MariaDB, number: int) -> None:
    """End a connection, unless it has ended."""
    try:
        ask(server, None, f"KILL {number}")
    except pymysql.Error as error:
        if error.args[0] != 1094:  # no such connection
            raise


async def test_the_drivers_own_connection_is_closed_by_a_cancelled_read(server: MariaDB) -> None:
    """What asyncmy 0.2.18 mended: before, the rows of the cancelled query were the answer to the next one."""
    connection = await asyncmy.connect(**server.login())
    cursor = connection.cursor()
    reading = asyncio.create_task(cursor.execute("SELECT /* cancelled */ 'foreign', SLEEP(30)"))
    number = await shown(server, "SELECT /* cancelled")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises((driver_errors.Error, OSError)):
        await connection.cursor().execute("SELECT 'mine'")
    connection.close()
    await asyncio.to_thread(kill, server, number)


async def test_a_handlers_own_transaction_is_not_cut_while_it_thinks(narrow: SqlStore) -> None:
    """Our own ones are, after some seconds, so that a process that stands still keeps no locks."""
    async with narrow.transaction() as connection:
        cursor = connection.cursor()
        await cursor.execute("SELECT @@idle_transaction_timeout")
        assert await cursor.fetchone() == (0,)
        await cursor.close()


async def test_what_a_script_raises_is_rolled_back_and_the_connection_is_used_on(narrow: SqlStore) -> None:
    driver = driver_of(narrow)

    def script() -> Script[None]:
        yield Statement("INSERT INTO holdfast_meta (name, value) VALUES ('half', 'done')")
        raise Conflict("no")

    with pytest.raises(Conflict):
        await driver.run(script)
    assert await driver.run(lambda: saying("SELECT 1 FROM holdfast_meta WHERE name = 'half'")) == []


# --- deadlocks -----------------------------------------------------------------------------------------------------


class Rival:
    """A transaction of somebody else, in a thread of its own; heavier than ours, so that we are the victim."""

    def __init__(self, server: MariaDB, database: str) -> None:
        self._connection: Any = pymysql.connect(**server.login(), database=database, ssl_disabled=True)
        self.ask("CREATE TEMPORARY TABLE heavy (n INT) ENGINE = InnoDB")
        self.ask("INSERT INTO heavy SELECT seq FROM seq_1_to_5000")

    def ask(self, sql: str) -> None:
        """Do a statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql)

    def later(self, sql: str) -> threading.Thread:
        """Do a statement and commit, in a thread."""

        def work() -> None:
            self.ask(sql)
            self._connection.commit()

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def close(self) -> None:
        """End it."""
        self._connection.close()


@pytest.fixture
def rival(server: MariaDB, h: DatabaseHarness) -> Iterator[Rival]:
    found = Rival(server, h.database)
    yield found
    found.close()


async def test_a_deadlock_is_nobodys_business_but_the_drivers(
    h: DatabaseHarness, server: MariaDB, rival: Rival
) -> None:
    lock = "SELECT slot FROM holdfast_slot WHERE slot = {} FOR UPDATE"
    tries: list[int] = []

    def script() -> Script[str]:
        tries.append(1)
        yield Statement(lock.format(1))
        yield Statement("SELECT /* crossing */ slot FROM holdfast_slot WHERE slot = 2 FOR UPDATE")
        return "done"

    rival.ask("UPDATE holdfast_slot SET slot = slot WHERE slot = 2")
    rival.ask(lock.format(2))
    ours = asyncio.create_task(driver_of(h.store).run(script))
    await shown(server, "SELECT /* crossing")
    thread = await asyncio.to_thread(rival.later, lock.format(1))
    async with asyncio.timeout(BOUND):
        assert await ours == "done"
        await asyncio.to_thread(thread.join)
    assert len(tries) >= 2


# --- lost connections ----------------------------------------------------------------------------------------------


async def test_connections_that_died_unused_cost_no_call(h: DatabaseHarness, server: MariaDB) -> None:
    await asyncio.gather(*(h.store.stats() for _ in range(5)))
    rows = ask(server, None, f"SELECT id FROM information_schema.processlist WHERE db = '{h.database}'")
    assert rows
    for (number,) in rows:
        kill(server, int(number))
    assert await h.store.enqueue([h.new(id="after")])
    await asyncio.gather(*(h.store.stats() for _ in range(5)))


async def test_a_connection_that_is_lost_before_the_commit_is_replaced_and_the_script_repeated(
    h: DatabaseHarness, server: MariaDB
) -> None:
    tries: list[int] = []

    def script() -> Script[None]:
        tries.append(1)
        yield Statement(f"INSERT INTO holdfast_meta (name, value) VALUES ('try {len(tries)}', '')")
        if len(tries) == 1:
            yield Statement("SELECT /* to be killed */ SLEEP(30)")

    writing = asyncio.create_task(driver_of(h.store).run(script))
    kill(server, await shown(server, "SELECT /* to be killed"))
    async with asyncio.timeout(BOUND):
        await writing
    rows = ask(server, h.database, "SELECT name FROM holdfast_meta WHERE name LIKE 'try%'")
    assert rows == [("try 2",)]
    ask(server, h.database, "DELETE FROM holdfast_meta WHERE name LIKE 'try%'")


async def proxied(proxy: Proxy, url: str, **options: object) -> SqlStore:
    """An open store that reaches its database through a proxy."""
    store = open_mysql(at_port(url, proxy.port), clock=SystemClock(), **options)
    await store.open()
    return store


async def test_an_answer_that_is_lost_after_the_commit_is_an_unknown_outcome(server: MariaDB, url: str) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, pool_size=1)
        [first] = await store.enqueue([NewJob(id="first", task="t", own_id=True)])
        assert first.job.state is State.QUEUED

        def script() -> Script[None]:
            yield Statement("INSERT INTO holdfast_meta (name, value) VALUES ('sent', '')")
            proxy.cut_after("up", len("\x07\x00\x00\x00\x03COMMIT"))  # the commit arrives, its answer does not

        with pytest.raises(OutcomeUnknown, match="Ask by the job's id"):
            await driver_of(store).run(script)
        again = await store.enqueue([NewJob(id="second", task="t", own_id=True)])
        assert again[0].job.id == "second"
        await store.close()
    ask(server, url.rpartition("/")[2], "DELETE FROM holdfast_meta WHERE name = 'sent'")


def cut_the_next_commit(proxy: Proxy, store: SqlStore) -> None:
    """Of the next transaction of a store the commit arrives, and its answer does not."""
    driver = driver_of(store)
    run = driver.run

    async def cut(script: Any, **options: Any) -> Any:
        tries: list[int] = []

        def cutting() -> Script[Any]:
            answer = yield from script()
            if not tries:
                proxy.cut_after("up", len("\x07\x00\x00\x00\x03COMMIT"))
            tries.append(1)
            return answer

        driver.run = run  # type: ignore[method-assign]
        return await run(cutting, **options)

    driver.run = cut  # type: ignore[method-assign]


@pytest.mark.parametrize("own_id", [False, True])
async def test_an_enqueue_whose_commit_was_not_answered_is_found_by_its_ids_and_not_refused(
    server: MariaDB, url: str, own_id: bool
) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, pool_size=1)
        for number in range(12):
            names = [f"{number}-{part}" for part in range(3)]
            kinds: list[dict[str, Any]] = [{"unique": f"u{number}"}, {"key": "k"}, {"key": "k"}]
            jobs = [NewJob(id=name, task="t", own_id=own_id, **kind) for name, kind in zip(names, kinds, strict=True)]
            cut_the_next_commit(proxy, store)
            answers = await store.enqueue(jobs)
            assert [(one.id, str(one.verdict)) for one in answers] == [(name, "new") for name in names]
        assert proxy.cuts == 12
        assert (await store.stats()).total(State.QUEUED) == 36
        await store.close()


async def test_a_settle_whose_commit_was_not_answered_is_sent_again_and_accepted(server: MariaDB, url: str) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, pool_size=1)
        await store.enqueue([NewJob(id="one", task="t")])
        want = Want(queues=(QueueWant("default", 1),), limit=1, instance="i", worker="w")
        [claim] = (await store.claim(want)).items
        cut_the_next_commit(proxy, store)
        [settled] = await store.settle([Settlement(claim, Succeeded(b"1"))])
        assert str(settled.accepted) in ("applied", "repeated")
        assert proxy.cuts == 1
        [job] = await store.jobs(["one"])
        assert job is not None
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        await store.close()


async def test_that_the_server_is_away_later_does_not_say_that_nothing_was_stored_before(
    server: MariaDB, url: str
) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, pool_size=1, patience=0.1)
        cut_the_next_commit(proxy, store)
        proxy.refuse()
        with pytest.raises(OutcomeUnknown):
            await store.enqueue([NewJob(id="one", task="t")])
        proxy.refuse(refusing=False)
        [answer] = await store.enqueue([NewJob(id="one", task="t")])  # it was stored: the id finds it
        assert str(answer.verdict) == "duplicate"
        want = Want(queues=(QueueWant("default", 1),), limit=1, instance="i", worker="w")
        [claim] = (await store.claim(want)).items
        cut_the_next_commit(proxy, store)
        proxy.refuse()
        with pytest.raises(OutcomeUnknown):  # a settle is sent again by the driver itself
            await store.settle([Settlement(claim, Succeeded(b"1"))])
        proxy.refuse(refusing=False)
        [settled] = await store.settle([Settlement(claim, Succeeded(b"1"))])
        assert str(settled.accepted) == "repeated"
        await store.close()


@feature("TW3")
async def test_a_server_that_vanished_without_a_word_is_noticed(server: MariaDB, url: str) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, statement_timeout=0.3, connect_timeout=0.3, patience=0.1)
        proxy.silence()
        async with asyncio.timeout(BOUND):
            with pytest.raises(StoreUnavailable):
                await store.stats()
        proxy.silence(silent=False)
        async with asyncio.timeout(BOUND):
            assert (await store.stats()).queues == {}
        await store.close()


# --- every byte ----------------------------------------------------------------------------------------------------


async def life(store: SqlStore, number: int) -> None:
    """Enqueue, claim, beat and settle one job; each call again while the way is lost, as its callers do."""
    job = NewJob(id=f"life-{number}", task="t", own_id=True, queue="q")

    async def again(call: Any) -> Any:
        while True:
            try:
                return await call()
            except (StoreUnavailable, OutcomeUnknown):
                await asyncio.sleep(0)

    await again(lambda: store.enqueue([job], on_duplicate=OnDuplicate.REPORT))
    want = Want(queues=(QueueWant("q", 10),), limit=10, instance="i", worker="w", lease=BOUND)
    claims = await again(lambda: store.claim(want))
    settlements = [Settlement(claim, Succeeded(b"1")) for claim in claims.items]
    if settlements:
        await again(lambda: store.settle(settlements))


@feature("TW3")
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("count", [100, pytest.param(4_000, marks=pytest.mark.soak)])
async def test_a_connection_cut_at_any_byte_loses_and_doubles_nothing(
    server: MariaDB, url: str, direction: Any, count: int
) -> None:
    async with Proxy(server.upstream) as proxy:
        store = await proxied(proxy, url, pool_size=1)
        before = proxy.carried[direction]
        await life(store, 0)
        whole = proxy.carried[direction] - before
        for turn in range(1, count + 1):
            proxy.cut_after(direction, max(1, whole * turn // count))
            async with asyncio.timeout(BOUND):
                await life(store, turn)
        assert proxy.cuts >= count // 2
        ended = await store.count(JobFilter(states=(State.SUCCEEDED,)))
        found = [job for job in await store.jobs([f"life-{number}" for number in range(count + 1)]) if job is not None]
        await store.close()
    # A claim whose answer was lost keeps its job until its lease ends; nothing else may be open.
    assert len(found) == count + 1
    assert {job.state for job in found} <= {State.SUCCEEDED, State.RUNNING}
    assert ended == sum(job.state is State.SUCCEEDED for job in found) >= count // 2
    assert {job.attempt for job in found} == {1}


# --- errors --------------------------------------------------------------------------------------------------------


def test_each_meaning_of_an_error_has_a_word_of_ours() -> None:
    for code in MEANINGS:
        error = driver_errors.OperationalError(code, "said")
        assert meaning_of(error) is MEANINGS[code]
        assert "MySQL at here" in str(as_ours(error, "MySQL at here"))
    assert meaning_of(driver_errors.ProgrammingError(1064, "syntax")) is Meaning.OURS
    assert meaning_of(ConnectionResetError()) is Meaning.LOST
    assert meaning_of(driver_errors.InterfaceError(0, "Not connected")) is Meaning.LOST
