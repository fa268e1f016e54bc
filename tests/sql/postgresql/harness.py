"""A store on a PostgreSQL database, on a steered clock. It can look at its own tables."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from holdfast.clock import ManualClock, SystemClock
from holdfast.stores.sql import open_postgresql
from holdfast.stores.sql.dialects.postgresql_texts import kind
from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver
from holdfast.stores.sql.schema import PREFIX, TABLES
from holdfast.stores.sql.store import SqlStore
from holdfast.testing.contract.harness import StoreHarness
from tests.sql.core.looking import faults_of, snoozed_so_often
from tests.sql.postgresql.warm import lend
from tests.support.servers.postgres import VARIABLE, GivenPostgres, PostgresServer, running

T = TypeVar("T")

#: No table makes this number: each statement that writes a row has to.
_MISPLACED = f"SELECT id FROM {PREFIX}done WHERE kind <> {kind('queue', 'task', 'worker', 'state')}"

#: Makes a migrated database as empty as a new one; some hundred times faster than another database.
EMPTY = "; ".join(f"DELETE FROM {PREFIX}{table}" for table in TABLES if table != "meta")
EMPTY += f"; UPDATE {PREFIX}meta SET value = '0' WHERE name = 'export'"
EMPTY += f"; DELETE FROM {PREFIX}meta WHERE name ~ '^export_|^unordered$'"


@functools.cache
def shared_server() -> PostgresServer:
    """Return the one server of this process, started when first needed, without syncs; or the one that was named."""
    if given := os.environ.get(VARIABLE):
        named = GivenPostgres(given)
        atexit.register(named.remove)
        return named
    stack = contextlib.ExitStack()
    server = stack.enter_context(running(durable=False))
    atexit.register(stack.close)
    return server


def apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns, run in a loop of its own: this may be called from a running one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


class DatabaseHarness(StoreHarness):
    """A store on a database; another one may be opened on the same database."""

    store: SqlStore

    def __init__(self, url: str, clock: ManualClock | None = None, **options: Any) -> None:
        self.url = url
        clock = clock or ManualClock()
        super().__init__(open_postgresql(url, clock=clock, **options), clock)

    def faults(self) -> list[str]:
        """Return what contradicts itself in the tables."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return faults_seen(connection)


class PostgresHarness(DatabaseHarness):
    """For the contract suites: the process's database, emptied."""

    def __init__(self) -> None:
        super().__init__(_shared_database(), auto_migrate=True)

    def faults(self) -> list[str]:
        """The same, by one connection for all: the stateful test looks after each step."""
        return faults_seen(_looker())

    async def snoozed(self, item_id: str, times: int) -> None:
        """Count as if the job had been put off so many times: a thousand claims and settles take many seconds."""
        rest = bytes.fromhex(snoozed_so_often(times))
        _looker().execute("UPDATE holdfast_job SET rest = %s WHERE id = %s", (rest, item_id))

    async def open(self) -> None:
        """Empty the database, and open the store."""
        driver = self.store._driver
        assert isinstance(driver, AsyncpgDriver)
        lend(driver)
        pool = driver._make_pool(driver.connect)
        connection = await pool.take()
        try:
            if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{PREFIX}meta"):
                await connection.execute(EMPTY)
        finally:
            pool.give(connection)
            await pool.close()
        await super().open()


def migrate(url: str) -> list[str]:
    """Make the tables."""
    return apart(lambda: open_postgresql(url, clock=SystemClock()).migrate())


@functools.cache
def template() -> str:
    """The name of a database with our tables, of which others are copies."""
    migrate(shared_server().create_database("with_tables"))
    return "with_tables"


@functools.cache
def _free() -> list[str]:
    return []


def empty_database() -> str:
    """Return the URL of a database with our tables and not a row: one that was given back, or a new one."""
    if _free():
        return _free().pop()
    url = shared_server().create_database(template=template())
    with psycopg.connect(url, autocommit=True) as connection:  # a copy would take itself for the same database
        connection.execute(f"UPDATE {PREFIX}meta SET value = gen_random_uuid()::text WHERE name = 'database'")
    return url


def give_back(url: str) -> None:
    """Empty a database for the next one who asks, and drop the tables of the user's."""
    with psycopg.connect(url, autocommit=True) as connection:
        others = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE %s", (f"{PREFIX}%",)
        ).fetchall()
        for (table,) in others:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
        connection.execute(EMPTY)
    _free().append(url)


def at_port(url: str, port: int) -> str:
    """The URL of the same database by way of a port of the loopback, without encryption."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return f"postgresql://{login}@127.0.0.1:{port}{parts.path}?sslmode=disable"


def faults_seen(connection: psycopg.Connection[Any]) -> list[str]:
    """What contradicts itself in the tables, seen by a connection."""
    found = connection.execute(_MISPLACED).fetchall()
    misplaced = [f"{job_id} is done and stands in another group of lists than its own" for (job_id,) in found]
    return faults_of(lambda sql: connection.execute(sql).fetchall()) + misplaced


@functools.cache
def _looker() -> psycopg.Connection[Any]:
    connection = psycopg.connect(_shared_database(), autocommit=True)
    atexit.register(connection.close)  # before the server ends
    return connection


@functools.cache
def _shared_database() -> str:
    return shared_server().create_database("contract")
