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
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from holdfast.errors import ConfigError, StoreClosed, StoreCorrupt, StoreFull, StoreUnavailable
from holdfast.stores.sql.script import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.stores.sql.dialects.sqlite import SqliteDialect
    from holdfast.stores.sql.script import Row, Script, Statement

T = TypeVar("T")


#: RETURNING, upserts and partial indexes as the statements use them.
OLDEST: Final = (3, 35, 0)
#: How many scripts share one transaction at most.
SHARED_MAX: Final = 64
#: Seconds between two attempts to get the write lock: short, and never in step with others.
_PAUSE: Final = 0.002
_STATEMENTS: Final = 512


class Order(NamedTuple):
    """A script to be run (None: tell the data version), and who waits for it."""

    script: Callable[[], Script[Any]] | None
    caller: asyncio.Future[Any]


class Lane:
    """One thread with one connection: takes orders in turn."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], work: Callable[..., None]) -> None:
        """work: does a batch of orders on the connection."""
        self._connect, self._work = connect, work
        self._orders: deque[Order] = deque()
        self._ready = threading.Condition()
        self._told: asyncio.Future[None] | None = None  # that the thread ends
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._connected: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Connect, and begin to take orders. Raises what the connecting raises."""
        self._connected = asyncio.get_running_loop().create_future()
        self._thread.start()
        await self._connected

    def give(self, order: Order) -> None:
        """Take an order."""
        with self._ready:
            self._orders.append(order)
            self._ready.notify()

    async def stop(self) -> None:
        """Do what was given, and close the connection. Needs no pool of threads: there may be none at the program's end."""
        told = asyncio.get_running_loop().create_future()
        with self._ready:
            self._told = told
            self._ready.notify()
        await told
        self._thread.join()

    def _run(self) -> None:
        assert self._connected is not None, "started by start()"
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - it belongs to who starts the lane, and is given to it
            tell(self._connected, None, error)
            return
        tell(self._connected, None, None)
        try:
            while orders := self._next():
                self._do(connection, orders)
        finally:
            connection.close()
            if self._told is not None:
                tell(self._told, None, None)

    def _do(self, connection: sqlite3.Connection, orders: list[Order]) -> None:
        try:
            self._work(connection, orders)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must learn of it, and others be served
            for order in orders:
                tell(order.caller, None, error)

    def _next(self) -> list[Order]:
        with self._ready:
            while not self._orders and self._told is None:
                self._ready.wait()
            return [self._orders.popleft() for _ in range(min(len(self._orders), SHARED_MAX))]


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
        answer: T = await self._give(write, script)
        return answer

    async def data_version(self) -> int:
        """A number that changes when another connection has written."""
        version: int = await self._give(True, None)
        return version

    async def _give(self, write: bool, script: Callable[[], Script[T]] | None) -> Any:
        if self._lanes and self._pid != os.getpid():
            # A child of a fork has the parent's connections, which it must not touch, and none of its threads.
            self._inherited.append(self._lanes)
            await self._start()
        lane = self._lanes.get(write)
        if lane is None:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        caller: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.give(Order(script, caller))
        return await caller

    # --- connections -----------------------------------------------------------------------------------------------

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            connection.close()
            raise self._error(error) from error
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=0.0, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
            )
        except sqlite3.Error as error:
            raise self._error(error) from error
        return connection

    # --- transactions ----------------------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, orders: list[Order]) -> None:
        scripts = [order for order in orders if order.script is not None]
        if scripts:
            self._transact(connection, scripts)
        for order in orders:
            if order.script is None:
                [version] = connection.execute("PRAGMA data_version").fetchone()
                tell(order.caller, version, None)

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
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE * random.random())
            else:
                return

    def _alone(self, connection: sqlite3.Connection, order: Order) -> tuple[Any, Exception | None]:
        """Run the only script of a transaction; what it raises undoes all."""
        answer, fault = _run(order.script, connection)
        if fault is not None:
            self._roll_back(connection)
        return answer, None if fault is None else self._error(fault)

    def _beside(self, connection: sqlite3.Connection, order: Order) -> tuple[Any, Exception | None]:
        """Run one script of several; what it raises undoes its own part alone."""
        connection.execute("SAVEPOINT one")
        answer, fault = _run(order.script, connection)
        if fault is not None:
            if isinstance(fault, sqlite3.Error) and not connection.in_transaction:
                raise fault  # SQLite itself has rolled all of it back
            connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return answer, None if fault is None else self._error(fault)

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
            tell(order.caller, answer, None if fault is None else self._error(fault))

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def _fail(self, orders: list[Order], error: sqlite3.Error) -> None:
        for order in orders:
            tell(order.caller, None, self._error(error))

    def _error(self, error: Exception) -> Exception:
        """Return what a database error means."""
        if not isinstance(error, sqlite3.Error):
            return error
        name = getattr(error, "sqlite_errorname", "") or ""
        said = f"{self._path}: {error}"
        if _busy(error):
            return StoreUnavailable(
                f"{said}: another process has held the database for more than {self._busy_timeout:g} s. Nothing was stored; "
                "try again, and look for a long transaction."
            )
        if name.startswith("SQLITE_FULL"):
            return StoreFull(f"{said}: there is no room on the disk. Nothing was stored. Make room and try again.")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")) or "not a database" in str(error):
            return StoreCorrupt(
                f"{said}. Nothing was changed. Is it another program's file? Restore it, or name another."
            )
        if name.startswith("SQLITE_CANTOPEN") or "unable to open" in str(error):
            return ConfigError(
                f"{said}: expected a file in a folder that is there and may be written. Make it, or change the URL."
            )
        if name.startswith("SQLITE_READONLY"):
            return ConfigError(
                f"{said}: expected a file that may be written. Change its rights, or those of its folder."
            )
        if name.startswith("SQLITE_IOERR"):
            return StoreUnavailable(f"{said}: the disk failed. Nothing was stored.")
        return error


def _busy(error: sqlite3.Error) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _run(script: Callable[[], Script[Any]] | None, connection: sqlite3.Connection) -> tuple[Any, Exception | None]:
    assert script is not None, "only the writer is asked for the data version"
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


def tell(waiter: asyncio.Future[Any], answer: Any, fault: Exception | None) -> None:
    """Finish a future of a loop in another thread. A loop that has closed has nobody left to tell."""
    loop = waiter.get_loop()
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(_finish, waiter, answer, fault)
        except RuntimeError:
            if not loop.is_closed():  # else it closed just now
                raise


def _finish(caller: asyncio.Future[Any], answer: Any, fault: Exception | None) -> None:
    if caller.done():
        return
    if fault is not None:
        caller.set_exception(fault)
    else:
        caller.set_result(answer)
