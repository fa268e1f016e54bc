"""The way to the user's database: one function, one transaction, on an async or a sync engine.

All that a task table does is written once, as plain functions of a Connection. Through an async engine they run in
SQLAlchemy's own bridge (`run_sync`), through a sync engine in a few threads of the table's own.

A transaction that met a lock or a deadlock is run again, with short jittered pauses, for a bounded time; a cancelled caller
leaves at once. On SQLite every transaction that writes begins as a writer, because a reader that turns writer fails
whatever the timeout, and writers of this process wait for their turn here instead of polling the file's lock.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import BigInteger, bindparam, literal, literal_column
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigError, OutcomeUnknown, StoreUnavailable
from holdfast.job.content import safe_str
from holdfast.job.ids import shown
from holdfast.table.columns import micros

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

R = TypeVar("R")
Work = Callable[["Connection"], R]

#: How long a transaction that meets locks is tried again, in seconds, and the pauses between.
_LOCKED_MAX: Final = 30.0
_PAUSE: Final = 0.01
_PAUSE_MAX: Final = 0.5
_THREADS: Final = 4

_LOCKED_STATES: Final = frozenset({"40001", "40P01", "55P03"})
_LOCKED_NUMBERS: Final = frozenset({1205, 1213})
_MISSING_STATES: Final = frozenset({"42P01", "42703", "3F000"})
_MISSING_NUMBERS: Final = frozenset({1146, 1054, 1049})
_MISSING_TEXTS: Final = ("no such table", "no such column", "has no column")

# The start of the statement, not of the transaction: stable within a statement, so that an index may be used.
_NOW_TEXTS: Final = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
}
_NOW_TEXTS_ALL: Final = {**_NOW_TEXTS, "mariadb": _NOW_TEXTS["mysql"]}
DIALECTS: Final = ("sqlite", *_NOW_TEXTS_ALL)


class Gate:
    """Runs work on an engine. clock: for tests; else the database's clock counts (on SQLite the machine's)."""

    def __init__(self, engine: Engine | AsyncEngine, clock: Clock | None = None, *, owned: bool = False) -> None:
        """Raises ConfigError for what is no engine, another database, and SQLite in memory."""
        self.given, self._clock, self._owned = engine, clock, owned
        self.dialect = _checked_dialect(engine)
        self.is_sqlite = self.dialect == "sqlite"
        self._engine = engine
        self._threads: ThreadPoolExecutor | None = None
        if isinstance(engine, Engine):
            # Its threads are started when there is work for them.
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="holdfast-table")
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
        self.missing: Callable[[], Exception] | None = None  # makes the error of a missing table

    @property
    def is_async(self) -> bool:
        """Whether the engine is an async one."""
        return isinstance(self.given, AsyncEngine)

    @property
    def sync_engine(self) -> Engine:
        """The plain engine, or the one within the async engine."""
        return self.given.sync_engine if isinstance(self.given, AsyncEngine) else self.given

    @property
    def place(self) -> str:
        """Which database it leads to, whatever driver and user it goes by; what tells schemas apart is part of it."""
        url = self.sync_engine.url
        if not (url.database or url.host or url.query):
            return f"engine {id(self.sync_engine)}"  # connected by a function of the user's own
        where = (url.get_backend_name(), url.host, url.port, url.database, url.query.get("host"))
        return f"{where} {self.sync_engine.get_execution_options().get('schema_translate_map', '')}"

    def now(self) -> ColumnElement[int]:
        """The time of the statement that it stands in, in microseconds since the epoch."""
        if self._has_clock:
            return literal_column(_NOW_TEXTS_ALL[self.dialect], BigInteger)
        return literal(self._micros(), BigInteger)

    def now_bound(self) -> ColumnElement[int]:
        """The same for a statement that is made once: `moment` gives the values to run it with."""
        return self.now() if self._has_clock else bindparam("n_time", type_=BigInteger())

    def moment(self) -> dict[str, int]:
        """Return what is bound for `now_bound`."""
        return {} if self._has_clock else {"n_time": self._micros()}

    @property
    def _has_clock(self) -> bool:
        return self._clock is None and self.dialect in _NOW_TEXTS_ALL

    def _micros(self) -> int:
        return micros((self._clock or SystemClock()).now())

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(self, work: Work[R], *, write: bool = True) -> R:
        """Run `work` in a transaction of its own and return its answer once that is committed.

        Raises StoreUnavailable when the database does not answer or stays locked, OutcomeUnknown when it was lost in the
        middle of the commit, MissingTable; whatever else it raises comes through.
        """
        patience = _Patience()
        while True:
            try:
                return await self._once(work, write)
            except Locked as error:
                await asyncio.sleep(patience.pause(error))

    async def _once(self, work: Work[R], write: bool) -> R:
        if not (self.is_sqlite and write):
            return await self._transaction(work, write)
        turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with turn:
            return await self._transaction(work, write)

    async def _transaction(self, work: Work[R], write: bool) -> R:
        if isinstance(self._engine, AsyncEngine):
            return await self._through(self._engine, work, write)
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._sync_once, work, write))

    async def _through(self, engine: AsyncEngine, work: Work[R], write: bool) -> R:
        try:
            connection = engine.connect()
            async with connection:
                return await connection.run_sync(self._within, work, write)
        except DBAPIError as error:
            raise self.translated(error) from error

    def run_sync(self, work: Work[R], *, write: bool = True) -> R:
        """The same on a sync engine, in this thread."""
        patience = _Patience()
        while True:
            try:
                return self._sync_once(work, write)
            except Locked as error:
                time.sleep(patience.pause(error))

    def _sync_once(self, work: Work[R], write: bool) -> R:
        assert isinstance(self._engine, Engine), "an async engine needs a loop"
        try:
            with self._engine.connect() as connection:
                return self._within(connection, work, write)
        except DBAPIError as error:
            raise self.translated(error) from error

    def _within(self, connection: Connection, work: Work[R], write: bool) -> R:
        if not self.is_sqlite:
            # Whatever level the engine is set to: above it claimers fail each other (and lock gaps on MySQL), and without
            # a transaction locks do not last. SQLite has one level only.
            connection.execution_options(isolation_level="READ COMMITTED")
        # Begun here, so that a Session which joins it neither commits it nor rolls it back.
        transaction = connection.begin()
        if self.is_sqlite and write:
            self.begin_as_writer(connection)
        answer = work(connection)
        try:
            transaction.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise OutcomeUnknown(f"the connection was lost in the middle of a commit: {error}") from error
            raise
        return answer

    def begin_as_writer(self, connection: Connection) -> None:
        """Take the file of SQLite, so that what is read now is so until it is written."""
        driver: Any = connection.connection.driver_connection
        # An engine whose owner begins transactions himself is left alone.
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    # --- errors ----------------------------------------------------------------------------------------------------

    def translated(self, error: DBAPIError) -> Exception:
        """Return what a driver's error means for us; what speaks of the row itself is returned as it is."""
        original = error.orig
        state = str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")
        number = original.args[0] if original is not None and original.args else None
        text = safe_str(original) if original is not None else ""
        if self.is_sqlite and ("is locked" in text or "busy" in text):
            return Locked(text)
        if state in _LOCKED_STATES or (self.dialect in ("mysql", "mariadb") and number in _LOCKED_NUMBERS):
            return Locked(text)
        if self.missing is not None and (
            state in _MISSING_STATES
            or (self.dialect in ("mysql", "mariadb") and number in _MISSING_NUMBERS)
            or (self.is_sqlite and any(words in text for words in _MISSING_TEXTS))
        ):
            return self.missing()
        if error.connection_invalidated or isinstance(error, InterfaceError | OperationalError):
            return StoreUnavailable(f"the database did not answer: {text or error}")
        return error

    # --- other loops, and the end ----------------------------------------------------------------------------------

    def for_another_loop(self) -> Gate:
        """Return a gate for another loop, to be closed there: connections of an async engine belong to one loop."""
        if isinstance(self.given, AsyncEngine):
            pool = self.given.sync_engine.pool.recreate()
            made = Gate(create_async_engine(self.given.url, pool=pool), self._clock, owned=True)
        else:
            made = Gate(self.given, self._clock)
        made.missing = self.missing
        return made

    async def close(self) -> None:
        """End our threads; the engine is the user's, and is closed only if we made it."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._owned and isinstance(self.given, AsyncEngine):
            await self.given.dispose()


class Locked(StoreUnavailable):
    """Another transaction was in the way: run this one again."""


class _Patience:
    """How long one transaction is tried again: short jittered pauses that grow, for a bounded time."""

    def __init__(self) -> None:
        self._until, self._failures = time.monotonic() + _LOCKED_MAX, 0

    def pause(self, error: Exception) -> float:
        """Return the seconds to wait after `error`. Raises StoreUnavailable when it is enough."""
        self._failures += 1
        wait: float = min(_PAUSE_MAX, _PAUSE * 2 ** min(self._failures, 10)) * (0.5 + random.random() / 2)
        if time.monotonic() + wait > self._until:
            raise StoreUnavailable(f"the database stayed locked for {_LOCKED_MAX:g} s: {error}") from error
        return wait


def _checked_dialect(engine: object) -> str:
    if not isinstance(engine, Engine | AsyncEngine):
        raise ConfigError(
            f"task table: expected an Engine or an AsyncEngine of SQLAlchemy, found {shown(engine)}. "
            'Write create_async_engine("sqlite+aiosqlite:///shop.db"), say.'
        )
    name = engine.dialect.name
    if name not in DIALECTS:
        raise ConfigError(f"task table: expected SQLite, PostgreSQL, MySQL or MariaDB, found {name}.")
    if name == "sqlite" and isinstance(engine.pool, StaticPool | SingletonThreadPool):
        raise ConfigError(
            "task table: expected a database in a file, found SQLite in memory: its one connection can not be shared by "
            "a worker and its heartbeat. Use sqlite+aiosqlite:///shop.db."
        )
    return name
