"""A store on a database of the shared MariaDB, on a steered clock. It can look at its own tables."""

from __future__ import annotations

import functools
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from holdfast.clock import ManualClock
from holdfast.stores.sql import open_mysql
from holdfast.stores.sql.store import SqlStore
from holdfast.testing.contract.harness import StoreHarness
from tests.sql.core.looking import faults_of, snoozed_so_often
from tests.support.servers.mariadb import MariaDB, shared

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What stays when a database is used again: the schema, and the rows that the migrations made.
_KEPT = ("holdfast_meta", "holdfast_slot")


class DatabaseHarness(StoreHarness):
    """A store on a database that is there; others may be opened on the same one."""

    store: SqlStore

    def __init__(self, server: MariaDB, database: str, clock: ManualClock | None = None, **options: Any) -> None:
        self.server, self.database = server, database
        clock = clock or ManualClock()
        options = {"auto_migrate": True, **options}
        super().__init__(open_mysql(server.url(database), clock=clock, **options), clock)

    def faults(self) -> list[str]:
        """Return what contradicts itself in the tables."""
        with asking(self.server, self.database) as connection:
            return faults_of(lambda sql: _rows(connection, sql))

    async def snoozed(self, item_id: str, times: int) -> None:
        """Count as if the job had been put off so many times: a thousand claims and settles take many seconds."""
        rest = f"X'{snoozed_so_often(times)}'"
        ask(self.server, self.database, f"UPDATE holdfast_job SET rest = {rest} WHERE id = '{item_id}'")


class MariadbHarness(DatabaseHarness):
    """For the contract suites: an empty database, which the next test uses again."""

    def __init__(self) -> None:
        super().__init__(shared(), empty_database())
        self._stack = ExitStack()
        self._looker: Any = None

    def faults(self) -> list[str]:
        """The same, by one connection for all: the stateful test looks after each step."""
        if self._looker is None:
            self._looker = self._stack.enter_context(asking(self.server, self.database))
        return faults_of(lambda sql: _rows(self._looker, sql))

    async def close(self) -> None:
        """Close the store, and empty its database."""
        await super().close()
        self._stack.close()
        give_back(self.database)


@functools.cache
def _free() -> list[str]:
    return []


def empty_database() -> str:
    """Return the name of a database without a row: making one takes a third of a second, emptying one a few milliseconds."""
    if _free():
        return _free().pop()
    server = shared()
    name = server.new_name()
    ask(server, None, f"CREATE DATABASE {name}")
    return name


def give_back(name: str) -> None:
    """Empty a database for the next one who asks; one without our tables is of no use to anybody."""
    server = shared()
    tables = [str(row[0]) for row in ask(server, name, "SHOW TABLES")]
    if "holdfast_meta" not in tables:
        ask(server, None, f"DROP DATABASE {name}")
        return
    ask(server, name, *(f"DELETE FROM {table}" for table in tables if table not in _KEPT))
    ask(server, name, "UPDATE holdfast_meta SET value = '1' WHERE name = 'epoch'")
    off = (
        "UPDATE holdfast_meta SET value = '0' WHERE name = 'export'",
        "DELETE FROM holdfast_meta WHERE name LIKE 'export\\_%' OR name = 'unordered'",
    )
    ask(server, name, *off)
    _free().append(name)


def ask(server: MariaDB, database: str | None, *statements: str) -> list[tuple[Any, ...]]:
    """Do statements on a connection of one's own, and return the rows of the last."""
    with asking(server, database) as connection:
        return _rows(connection, *statements)


@contextmanager
def asking(server: MariaDB, database: str | None) -> Iterator[Any]:
    """A connection for statements of a test's own."""
    # Without ssl_disabled the driver reads all the machine's certificates each time: a tenth of a second.
    connection = pymysql.connect(
        **server.login(),
        database=database,
        autocommit=True,
        conv=_CONVERSIONS,
        ssl_disabled=True,
    )
    try:
        yield connection
    finally:
        connection.close()


def _rows(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor, warnings.catch_warnings():
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def at_port(url: str, port: int) -> str:
    """The URL of the same database by way of a port of the loopback."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


_CONVERSIONS: dict[Any, Any] = {
    **conversions,
    FIELD_TYPE.VAR_STRING: _text,
    FIELD_TYPE.STRING: _text,
    FIELD_TYPE.VARCHAR: _text,
}


def databases() -> Iterator[tuple[MariaDB, str]]:
    """For a fixture: the shared server and an empty database of it."""
    name = empty_database()
    yield shared(), name
    give_back(name)
