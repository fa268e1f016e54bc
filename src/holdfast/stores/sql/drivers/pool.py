"""A few connections for one event loop.

The last one given back is the first one used, so that a quiet process keeps few of them warm. A connection that was lost
is dropped and never given out again; a new one is made when somebody needs it. While the server is away, those who need
one try for `patience` seconds, once the pool had ever reached it; before that they are told at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from holdfast.errors import ConfigError, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PAUSE_FIRST: Final = 0.02
_PAUSE_MAX: Final = 0.5
_CLOSE_SECONDS: Final = 2.0


class Connection(Protocol):
    """What a pool does with a connection."""

    def is_closed(self) -> bool:
        """Whether it is known to be of no more use."""
        ...

    def terminate(self) -> None:
        """Let it go without a word."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Say good-bye to the server."""
        ...


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """Connections made by `connect`, at most `size`. Bound to the loop that it is first used in."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        *,
        size: int,
        patience: float,
        told: Callable[[Exception], Exception],
    ) -> None:
        """told: an error of `connect` in our words; ConfigError is raised at once, others end the patience."""
        self._connect, self._patience, self._told = connect, patience, told
        self._room = asyncio.Semaphore(size)
        self._idle: list[C] = []
        self._busy: set[C] = set()
        self._reached = False
        self._closed = False

    async def take(self) -> C:
        """Return a connection of one's own. Raises StoreUnavailable, ConfigError, StoreClosed."""
        await self._room.acquire()
        try:
            connection = self._warm() or await self._fresh()
        except BaseException:
            self._room.release()
            raise
        self._busy.add(connection)
        return connection

    def give(self, connection: C) -> None:
        """Take a connection back that is in no transaction."""
        self._busy.discard(connection)
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)
        self._room.release()

    def drop(self, connection: C) -> None:
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
        for connection in tuple(self._busy):
            connection.terminate()

    async def close(self) -> None:
        """Let all connections go; those in use are cut."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await end(connection)
        for connection in tuple(self._busy):
            connection.terminate()
        await asyncio.sleep(0)  # a socket that was let go is closed at the loop's next turn, and there may be no other

    # --- making

    def _warm(self) -> C | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            connection.terminate()
        return None

    async def _fresh(self) -> C:
        loop = asyncio.get_running_loop()
        until = loop.time() + (self._patience if self._reached else 0.0)
        wait = _PAUSE_FIRST
        while True:
            if self._closed:
                raise StoreClosed("the store was closed: open it again before it is used.")
            try:
                connection = await self._connect()
            except Exception as error:
                told = self._told(error)
                if isinstance(told, ConfigError) or loop.time() + wait > until:
                    raise told from error
                await asyncio.sleep(wait)
                wait = min(_PAUSE_MAX, wait * 2)
            else:
                self._reached = True
                return connection


async def end(connection: Connection) -> None:
    """Say good-bye to the server, and wait not long for its answer."""
    try:
        await connection.close(timeout=_CLOSE_SECONDS)
    except Exception:  # noqa: BLE001 - it may be dead already, and nothing is pending on it
        connection.terminate()
