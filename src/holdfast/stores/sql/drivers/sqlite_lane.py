"""A thread with a SQLite connection that takes orders from event loops."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from holdfast.stores.sql.script import Script

#: How many orders are taken at once at most: they share one transaction.
SHARED_MAX: Final = 64


class Order(NamedTuple):
    """A script to be run in a transaction, or a look at the connection outside of one, and who waits for it."""

    caller: asyncio.Future[Any]
    script: Callable[[], Script[Any]] | None = None
    look: Callable[[sqlite3.Connection], Any] | None = None


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
