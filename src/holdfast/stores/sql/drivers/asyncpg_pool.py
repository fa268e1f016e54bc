"""A few connections for one event loop.

The last one given back is the first one used, so that a quiet process keeps few of them warm. A connection that was lost
is dropped and never given out again; a new one is made when somebody needs it. While the server is away, those who need
one try for `patience` seconds, once the pool had ever reached it; before that they are told at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import ConfigError, StoreClosed, StoreUnavailable
from holdfast.stores.sql.drivers.asyncpg_errors import as_ours, meaning_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PAUSE_FIRST: Final = 0.02
_PAUSE_MAX: Final = 0.5
_CLOSE_SECONDS: Final = 2.0


class Pool:
    """Connections made by `connect`, at most `size`. Bound to the loop that it is first used in."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], *, size: int, patience: float, where: str) -> None:
        """`where` names the server in messages."""
        self._connect, self._patience, self._where = connect, patience, where
        self._room = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._busy: set[Any] = set()
        self._reached = False
        self._closed = False

    async def take(self) -> Any:
        """Return a connection of one's own. Raises StoreUnavailable, ConfigError, StoreClosed."""
        await self._room.acquire()
        try:
            connection = self._warm() or await self._fresh()
        except BaseException:
            self._room.release()
            raise
        self._busy.add(connection)
        return connection

    def give(self, connection: Any) -> None:
        """Take a connection back that is in no transaction."""
        self._busy.discard(connection)
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)
        self._room.release()

    def drop(self, connection: Any) -> None:
        """Take a connection back that nobody may use any more."""
        self._busy.discard(connection)
        connection.terminate()
        self._room.release()

    def forget(self) -> None:
        """Let idle connections go; who needs one makes a new one."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    def suspect(self) -> None:
        """The way to the server is broken: cut all connections, also those that still wait for an answer."""
        self.forget()
        for connection in self._busy:
            connection.terminate()

    async def close(self) -> None:
        """Let all connections go; those in use end with their statement."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await end(connection)
        for connection in tuple(self._busy):
            connection.terminate()

    # --- making ----------------------------------------------------------------------------------------------------

    def _warm(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _fresh(self) -> Any:
        loop = asyncio.get_running_loop()
        until = loop.time() + (self._patience if self._reached else 0.0)
        wait = _PAUSE_FIRST
        while True:
            if self._closed:
                raise StoreClosed("the store was closed: open it again before it is used.")
            try:
                connection = await self._connect()
            except Exception as error:
                told = _told(error, self._where)
                if isinstance(told, ConfigError) or loop.time() + wait > until:
                    raise told from error
                await asyncio.sleep(wait)
                wait = min(_PAUSE_MAX, wait * 2)
            else:
                self._reached = True
                return connection


def _told(error: Exception, where: str) -> Exception:
    if isinstance(error, ConfigError | StoreUnavailable):
        return error
    if isinstance(error, ValueError):  # the driver's way to say that a URL is wrong
        return ConfigError(
            f"store URL: expected postgresql://user:password@host:port/database, found {where}: {error}."
        )
    told = as_ours(error, where)
    if isinstance(told, ConfigError | StoreUnavailable):
        return told
    return StoreUnavailable(f"{where} did not let us connect ({meaning_of(error).value}): {error}.")


async def end(connection: Any) -> None:
    """Say good-bye to the server, and wait not long for its answer."""
    try:
        await connection.close(timeout=_CLOSE_SECONDS)
    except Exception:  # noqa: BLE001 - it may be dead already, and nothing is pending on it
        connection.terminate()
