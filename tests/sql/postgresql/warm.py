"""Connections that are lent from test to test.

A new connection costs a process of the server's, whose caches are empty, and all plans anew: several times what a test costs
itself. While a loop serves many tests (`kept`), a store leaves its idle connections to the next one. They carry nothing over:
the store keeps no state in a session.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver
from holdfast.stores.sql.drivers.pool import Pool, end

#: Idle connections of a loop, by what makes them.
Shelf = defaultdict[str, list[Any]]
_SHELVES: dict[asyncio.AbstractEventLoop, Shelf] = {}


@asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """While this is open, stores of this loop lend each other their connections."""
    loop = asyncio.get_running_loop()
    shelf = _SHELVES[loop] = defaultdict(list)
    try:
        yield
    finally:
        del _SHELVES[loop]
        for connections in shelf.values():
            for connection in connections:
                await end(connection)


def lend(driver: AsyncpgDriver) -> None:
    """Let a driver take its connections from those that its loop keeps, and leave them there, if it keeps any."""
    shelf = _SHELVES.get(asyncio.get_running_loop())
    if shelf is None:
        return

    def make_pool(connect: Callable[[], Awaitable[Any]]) -> Pool[Any]:
        return _LendingPool(shelf[connect.__name__], connect)

    driver._make_pool = make_pool  # type: ignore[method-assign]


class _LendingPool(Pool[Any]):
    def __init__(self, kept: list[Any], connect: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(connect, size=10, patience=5.0, told=lambda error: error)
        self._kept = kept

    async def _fresh(self) -> Any:
        while self._kept:
            connection = self._kept.pop()
            if not connection.is_closed():
                self._reached = True
                return connection
        return await super()._fresh()

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        self._kept += idle
        await super().close()
