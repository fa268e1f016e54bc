"""SQLite: one thread that writes, one that reads, each with its own connection.

Scripts that wait while a transaction is being written share the next one, each behind a savepoint of its own, so that
concurrent callers share a sync. Other processes may hold the file's write lock: it is asked for again and again for
`busy_timeout` seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.errors import ConfigError, StoreClosed
from holdfast.stores.sql.drivers.sqlite_errors import busy, meaning
from holdfast.stores.sql.drivers.sqlite_lane import Lane, Order, tell
from holdfast.stores.sql.script import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.stores.sql.dialects.sqlite import SqliteDialect
    from holdfast.stores.sql.script import Row, Script, Statement

T = TypeVar("T")


#: RETURNING, upserts and partial indexes as the statements use them.
OLDEST: Final = (3, 35, 0)
#: Seconds between two attempts to get the write lock: short, and never in step with others.
_PAUSE: Final = 0.002
_STATEMENTS: Final = 512


class SqliteDriver:
    """Runs scripts on a file."""

    def __init__(self, path: str, db: SqliteDialect, clock: Clock, *, busy_timeout: float = 30.0) -> None:
        """path: of the database file, whose folder must be there. busy_timeout: seconds to wait for other writers."""
        self.db = db
        self._path, self._clock, self._busy_timeout = path, clock, busy_timeout
        self._lanes: dict[bool, Lane] = {}
        self._pid = 0
        self._inherited: list[dict[bool, Lane]] = []

    def now(self) -> float:
        """The machine's time, or that of a test's clock."""
        return self._clock.now()

    async def open(self) -> None:
        """Open the file; make it when it is not there."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise ConfigError(
                f"expected SQLite {'.'.join(map(str, OLDEST))} or newer, found {sqlite3.sqlite_version}: it comes with "
                "Python. Use a newer Python, or another store."
            )
        await self._start()

    async def _start(self) -> None:
        write = Lane("holdfast-write", self._connect_writer, self._write)
        await write.start()
        read = Lane("holdfast-read", self._connect_reader, self._read)
        try:
            await read.start()
        except BaseException:
            await write.stop()
            raise
        self._lanes, self._pid = {True: write, False: read}, os.getpid()

    async def close(self) -> None:
        """Do what was given, and let the file go."""
        lanes, self._lanes = self._lanes, {}
        if self._pid == os.getpid():
            for lane in lanes.values():
                await lane.stop()

    async def run(
        self, script: Callable[[], Script[T]], *, write: bool = True, single: bool = False, repeats: bool = False
    ) -> T:
        """Run a script in a transaction; `single` and `repeats` change nothing here."""
        answer: T = await self._give(write, script=script)
        return answer

    async def data_version(self) -> int:
        """A number that changes when another connection has written."""
        version: int = await self._give(True, look=_data_version)
        return version

    async def keep_log(self) -> None:
        """Let the file have a write-ahead log, for ever; from then on nobody waits for readers.

        Not done at the connecting: a file that turns out to be another application's is left as it is.
        """
        await self._give(True, look=self._use_log)

    def _use_log(self, connection: sqlite3.Connection) -> None:
        # While another process opens the same file, SQLite refuses this at once: it asks its own patience only for a lock.
        [mode] = self._insist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        if mode != "wal":
            raise ConfigError(
                f"{self._path}: expected a file system on which SQLite can keep a write-ahead log, found mode {mode}. "
                "Put the file on a local disk."
            )
        connection.execute("PRAGMA busy_timeout = 0")  # the write lock is asked for in our own way

    async def _give(self, write: bool, **what: Any) -> Any:
        if self._lanes and self._pid != os.getpid():
            # A child of a fork has the parent's connections, which it must not touch, and none of its threads.
            self._inherited.append(self._lanes)
            await self._start()
            await self.keep_log()
        lane = self._lanes.get(write)
        if lane is None:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        caller: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.give(Order(caller, **what))
        return await caller

    # --- connections -----------------------------------------------------------------------------------------------

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(
                "SELECT count(*) FROM sqlite_master"
            ).fetchall()  # reads the file: is it a database at all?
        except sqlite3.Error as error:
            connection.close()
            raise meaning(error, self._path) from error
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_STATEMENTS,
            )
        except sqlite3.Error as error:
            raise meaning(error, self._path) from error
        return connection

    # --- transactions ----------------------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, orders: list[Order]) -> None:
        scripts = [order for order in orders if order.script is not None]
        if scripts:
            self._transact(connection, scripts)
        for order in orders:
            if order.look is not None:
                try:
                    seen, fault = order.look(connection), None
                except Exception as error:  # noqa: BLE001 - it belongs to the caller, and is given to it
                    seen, fault = None, meaning(error, self._path)
                tell(order.caller, seen, fault)

    def _transact(self, connection: sqlite3.Connection, orders: list[Order]) -> None:
        one = self._alone if len(orders) == 1 else self._beside
        try:
            self._begin(connection)
            results = [one(connection, order) for order in orders]
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._fail(orders, error)
            return
        for order, (answer, fault) in zip(orders, results, strict=True):
            tell(order.caller, answer, fault)

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._insist(lambda: connection.execute("BEGIN IMMEDIATE"))

    def _insist(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, tried again while others are in its way."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                return call()
            except sqlite3.OperationalError as error:
                if not busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE * random.random())

    def _alone(self, connection: sqlite3.Connection, order: Order) -> tuple[Any, Exception | None]:
        """Run the only script of a transaction; what it raises undoes all."""
        answer, fault = _run(order.script, connection)
        if fault is not None:
            self._roll_back(connection)
        return answer, None if fault is None else meaning(fault, self._path)

    def _beside(self, connection: sqlite3.Connection, order: Order) -> tuple[Any, Exception | None]:
        """Run one script of several; what it raises undoes its own part alone."""
        connection.execute("SAVEPOINT one")
        answer, fault = _run(order.script, connection)
        if fault is not None:
            if isinstance(fault, sqlite3.Error) and not connection.in_transaction:
                raise fault  # SQLite itself has rolled all of it back
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return answer, None if fault is None else meaning(fault, self._path)

    def _read(self, connection: sqlite3.Connection, orders: list[Order]) -> None:
        for order in orders:
            if order.caller.cancelled():
                continue
            try:
                connection.execute("BEGIN")
                answer, fault = _run(order.script, connection)
                connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                answer, fault = None, error
                self._roll_back(connection)
            tell(order.caller, answer, None if fault is None else meaning(fault, self._path))

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def _fail(self, orders: list[Order], error: sqlite3.Error) -> None:
        for order in orders:
            tell(order.caller, None, meaning(error, self._path))


def _run(script: Callable[[], Script[Any]] | None, connection: sqlite3.Connection) -> tuple[Any, Exception | None]:
    assert script is not None, "an order without a script is a look"
    execute, executemany = connection.execute, connection.executemany

    def do(statement: Statement) -> list[Row]:
        if statement.many:
            executemany(statement.sql, statement.args)
            return []
        return execute(statement.sql, statement.args).fetchall()

    try:
        return run_sync(script(), do), None
    except Exception as error:  # noqa: BLE001 - it belongs to the caller, and is given to it
        return None, error


def _data_version(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
