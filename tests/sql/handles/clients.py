"""Connections as users hold them: one class for each kind of handle, with the same few words."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import asyncmy
import asyncpg
import psycopg
import pymysql
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.sql.handles.places import Place

#: A user's table.
ORDERS = "CREATE TABLE IF NOT EXISTS orders (name VARCHAR(100))"


class Client(ABC):
    """A user's connection to a database."""

    database: ClassVar[str]
    is_async: ClassVar[bool] = True
    #: Whether the connection can be without a transaction, so that each statement is committed at once.
    has_autocommit: ClassVar[bool] = True
    #: Whether a commit of it wakes the workers of the same process at once.
    wakes: ClassVar[bool] = False

    def __init__(self, place: Place) -> None:
        self.place = place
        self.tx: Any = None

    @abstractmethod
    async def open(self) -> None:
        """Connect, and begin a transaction in the way in which the driver's users do."""

    @abstractmethod
    async def do(self, sql: str) -> None:
        """Do a statement of the user's own."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit."""

    @abstractmethod
    async def rollback(self) -> None:
        """Roll back."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""

    async def end(self) -> None:
        """Let all go, in whatever state it is."""
        await self.close()

    async def open_without_transaction(self) -> None:
        """Connect so that no transaction is open, and none begins by itself."""
        raise NotImplementedError


class Sqlite3(Client):
    """sqlite3, with its transactions that begin by themselves."""

    database, is_async = "sqlite", False

    async def open(self) -> None:
        self.tx = sqlite3.connect(self.place.file, timeout=30.0)
        self.tx.row_factory = sqlite3.Row

    async def open_without_transaction(self) -> None:
        self.tx = sqlite3.connect(self.place.file, isolation_level=None)

    async def do(self, sql: str) -> None:
        self.tx.execute(sql)

    async def commit(self) -> None:
        self.tx.commit()

    async def rollback(self) -> None:
        self.tx.rollback()

    async def close(self) -> None:
        self.tx.close()


class Asyncpg(Client):
    """asyncpg."""

    database = "postgresql"

    async def open(self) -> None:
        self.tx = await asyncpg.connect(self.place.url)
        self._transaction = self.tx.transaction()
        await self._transaction.start()

    async def open_without_transaction(self) -> None:
        self.tx = await asyncpg.connect(self.place.url)

    async def do(self, sql: str) -> None:
        await self.tx.execute(sql)

    async def commit(self) -> None:
        await self._transaction.commit()

    async def rollback(self) -> None:
        await self._transaction.rollback()

    async def close(self) -> None:
        await self.tx.close()


class PooledAsyncpg(Asyncpg):
    """A connection of asyncpg's pool."""

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self.place.url, min_size=1, max_size=1)
        self.tx = await self._pool.acquire()
        self._transaction = self.tx.transaction()
        await self._transaction.start()

    async def open_without_transaction(self) -> None:
        self._pool = await asyncpg.create_pool(self.place.url, min_size=1, max_size=1)
        self.tx = await self._pool.acquire()

    async def close(self) -> None:
        await self._pool.release(self.tx)

    async def end(self) -> None:
        self._pool.terminate()  # it would wait for a connection that was not given back


class Psycopg(Client):
    """psycopg, sync; with rows that are dicts."""

    database, is_async = "postgresql", False

    async def open(self) -> None:
        self.tx = psycopg.connect(self.place.url, row_factory=psycopg.rows.dict_row)

    async def open_without_transaction(self) -> None:
        self.tx = psycopg.connect(self.place.url, autocommit=True)

    async def do(self, sql: str) -> None:
        self.tx.execute(sql)

    async def commit(self) -> None:
        self.tx.commit()

    async def rollback(self) -> None:
        self.tx.rollback()

    async def close(self) -> None:
        self.tx.close()


class AsyncPsycopg(Client):
    """psycopg, async."""

    database = "postgresql"

    async def open(self) -> None:
        self.tx = await psycopg.AsyncConnection.connect(self.place.url)

    async def open_without_transaction(self) -> None:
        self.tx = await psycopg.AsyncConnection.connect(self.place.url, autocommit=True)

    async def do(self, sql: str) -> None:
        await self.tx.execute(sql)

    async def commit(self) -> None:
        await self.tx.commit()

    async def rollback(self) -> None:
        await self.tx.rollback()

    async def close(self) -> None:
        await self.tx.close()


#: MySQL's sessions begin their transactions with an old view unless told; jobs with keys need a new one.
NEWEST = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"


class PyMysql(Client):
    """PyMySQL; with rows that are dicts."""

    database, is_async = "mysql", False

    async def open(self, *, autocommit: bool = False) -> None:
        self.tx = pymysql.connect(
            **self.place.login,
            database=self.place.name,
            autocommit=autocommit,
            ssl_disabled=True,
            init_command=NEWEST,
            cursorclass=pymysql.cursors.DictCursor,
        )

    async def open_without_transaction(self) -> None:
        await self.open(autocommit=True)

    async def do(self, sql: str) -> None:
        with self.tx.cursor() as cursor:
            cursor.execute(sql)

    async def commit(self) -> None:
        self.tx.commit()

    async def rollback(self) -> None:
        self.tx.rollback()

    async def close(self) -> None:
        if self.tx.open:
            self.tx.close()


class Asyncmy(Client):
    """asyncmy."""

    database = "mysql"

    async def open(self, *, autocommit: bool = False) -> None:
        login = self.place.login
        self.tx = await asyncmy.connect(**login, database=self.place.name, autocommit=autocommit, init_command=NEWEST)

    async def open_without_transaction(self) -> None:
        await self.open(autocommit=True)

    async def do(self, sql: str) -> None:
        async with self.tx.cursor() as cursor:
            await cursor.execute(sql)

    async def commit(self) -> None:
        await self.tx.commit()

    async def rollback(self) -> None:
        await self.tx.rollback()

    async def close(self) -> None:
        if self.tx.connected:
            await self.tx.ensure_closed()


def _options(database: str) -> dict[str, Any]:
    return {"isolation_level": "READ COMMITTED"} if database == "mysql" else {}


class Alchemy(Client):
    """A SQLAlchemy Session."""

    is_async = False
    driver: ClassVar[str]
    wakes = True

    def _engine(self) -> None:
        self.engine = create_engine(self.place.alchemy(self.driver), **_options(self.database))

    async def open(self) -> None:
        self._engine()
        self.tx = Session(self.engine)

    async def open_without_transaction(self) -> None:
        self._engine()
        self.tx = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    async def do(self, sql: str) -> None:
        self.tx.execute(text(sql))

    async def commit(self) -> None:
        self.tx.commit()

    async def rollback(self) -> None:
        self.tx.rollback()

    async def close(self) -> None:
        self.tx.close()

    async def end(self) -> None:
        self.tx.close()
        self.engine.dispose()


class AlchemyConnection(Alchemy):
    """A SQLAlchemy Connection."""

    wakes = False

    async def open(self) -> None:
        self._engine()
        self.tx = self.engine.connect()


class ScopedSession(Alchemy):
    """A SQLAlchemy scoped_session, as Flask apps have it."""

    async def open(self) -> None:
        self._engine()
        self.tx = scoped_session(sessionmaker(self.engine))

    async def end(self) -> None:
        if isinstance(self.tx, scoped_session):
            self.tx.remove()
        await super().end()


class AsyncAlchemy(Client):
    """A SQLAlchemy AsyncSession."""

    driver: ClassVar[str]
    wakes = True

    def _engine(self) -> None:
        self.engine = create_async_engine(self.place.alchemy(self.driver), **_options(self.database))

    async def open(self) -> None:
        self._engine()
        self.tx = AsyncSession(self.engine)

    async def open_without_transaction(self) -> None:
        self._engine()
        connection = await self.engine.connect()
        self.tx = await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def do(self, sql: str) -> None:
        await self.tx.execute(text(sql))

    async def commit(self) -> None:
        await self.tx.commit()

    async def rollback(self) -> None:
        await self.tx.rollback()

    async def close(self) -> None:
        await self.tx.close()

    async def end(self) -> None:
        await self.tx.close()
        await self.engine.dispose()


class AsyncAlchemyConnection(AsyncAlchemy):
    """A SQLAlchemy AsyncConnection."""

    wakes = False

    async def open(self) -> None:
        self._engine()
        self.tx = await self.engine.connect()


def _on(base: type[Any], name: str, database: str, driver: str) -> type[Client]:
    made: type[Client] = type(name, (base,), {"database": database, "driver": driver, "__doc__": base.__doc__})
    return made


CLIENTS: tuple[type[Client], ...] = (
    Sqlite3,
    Asyncpg,
    PooledAsyncpg,
    Psycopg,
    AsyncPsycopg,
    PyMysql,
    Asyncmy,
    _on(Alchemy, "SessionOnSqlite", "sqlite", "sqlite"),
    _on(AlchemyConnection, "ConnectionOnSqlite", "sqlite", "sqlite"),
    _on(AsyncAlchemy, "AsyncSessionOnSqlite", "sqlite", "sqlite+aiosqlite"),
    _on(AsyncAlchemyConnection, "AsyncConnectionOnSqlite", "sqlite", "sqlite+aiosqlite"),
    _on(Alchemy, "SessionOnPsycopg", "postgresql", "postgresql+psycopg"),
    _on(ScopedSession, "ScopedSessionOnPsycopg", "postgresql", "postgresql+psycopg"),
    _on(AlchemyConnection, "ConnectionOnPsycopg", "postgresql", "postgresql+psycopg"),
    _on(AsyncAlchemy, "AsyncSessionOnAsyncpg", "postgresql", "postgresql+asyncpg"),
    _on(AsyncAlchemyConnection, "AsyncConnectionOnAsyncpg", "postgresql", "postgresql+asyncpg"),
    _on(AsyncAlchemy, "AsyncSessionOnPsycopg", "postgresql", "postgresql+psycopg"),
    _on(Alchemy, "SessionOnPyMysql", "mysql", "mysql+pymysql"),
    _on(AlchemyConnection, "ConnectionOnPyMysql", "mysql", "mysql+pymysql"),
    _on(AsyncAlchemy, "AsyncSessionOnAsyncmy", "mysql", "mysql+asyncmy"),
    _on(AsyncAlchemyConnection, "AsyncConnectionOnAsyncmy", "mysql", "mysql+asyncmy"),
)
