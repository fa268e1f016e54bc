"""One statement on PostgreSQL that is asked for again and again, by the shortest way that there is.

A script on a connection of the pool costs a prepared statement that is looked up, a timer that is set and taken back, and
some layers in between: a fifth of what a small INSERT takes. Here the statement is kept with its connection, and one timer
serves all calls on it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from holdfast.stores.sql.drivers.pooled import Failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdfast.stores.sql.drivers.pool import Pool


#: Releases of the driver whose own way from a prepared statement to the wire is known to be as it is used below.
_KNOWN: Final = ("0.29.", "0.30.", "0.31.", "0.32.")
_IS_KNOWN: Final = asyncpg.__version__.startswith(_KNOWN)


class Kept:
    """What is kept with a connection: statements that were prepared on it, and until when the server has to answer."""

    __slots__ = ("_limit", "_loop", "_prepared", "_timer", "_until", "connection", "statements")

    def __init__(self, connection: Any, limit: float) -> None:
        """limit: seconds until a server that says nothing counts as lost."""
        self.connection, self._limit = connection, limit
        self.statements: dict[str, Callable[[Sequence[Any]], Awaitable[list[Any]]]] = {}
        self._prepared: list[Any] = []  # the server forgets those that the driver sees no longer used
        self._loop = asyncio.get_running_loop()
        self._until = 0.0  # by the loop's time; 0: nothing is asked
        self._timer: asyncio.TimerHandle | None = None

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement. Raises Failed. A server that does not answer in time has the connection cut."""
        statement = self.statements.get(sql)
        self._until = self._loop.time() + self._limit
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._look)
        try:
            if statement is None:
                statement = await self._prepare(sql)
            rows: list[Any] = await statement(args)
        except Exception as error:
            raise Failed(error) from error
        finally:
            self._until = 0.0
        return rows

    async def _prepare(self, sql: str) -> Callable[[Sequence[Any]], Awaitable[list[Any]]]:
        prepared = await self.connection.prepare(sql)
        self._prepared.append(prepared)
        call = self.statements[sql] = _shortest(self.connection, prepared)
        return call

    def _look(self) -> None:
        self._timer = None
        if not self._until:
            return
        if self._until <= self._loop.time():
            self.connection.terminate()
        else:
            self._timer = self._loop.call_at(self._until, self._look)

    def end(self) -> None:
        """The connection is of no more use."""
        if self._timer is not None:
            self._timer.cancel()


def _shortest(connection: Any, prepared: Any) -> Callable[[Sequence[Any]], Awaitable[list[Any]]]:
    """Return the call of a prepared statement that costs least: where we know the driver, past four layers of its own.

    They see to it that a connection is used by one at a time, which the pool does, and that a statement which the server
    does not take any more is prepared anew, which the caller does.
    """
    if not _IS_KNOWN:
        return lambda args: prepared.fetch(*args)
    execute, state = connection._protocol.bind_execute, prepared._state
    return lambda args: execute(state, args, "", 0, False, None)


class KeptStatements:
    """Statements that are kept with the connections of a pool."""

    def __init__(self, pool: Pool[Any], limit: float, let_go: Callable[[Pool[Any], Any, BaseException], Any]) -> None:
        """limit: see Kept. let_go: a coroutine function that takes a connection back after an error."""
        self._pool, self._limit, self._let_go = pool, limit, let_go
        self._kept: dict[Any, Kept] = {}

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Ask once, in a transaction of its own. Raises Failed for what the database said; StoreUnavailable, StoreClosed."""
        connection = await self._pool.take()
        kept = self._kept.get(connection)
        if kept is None:
            kept = self._keep(connection)
        try:
            rows = await kept.fetch(sql, args)
        except BaseException as error:
            self._forget(connection)
            await self._let_go(self._pool, connection, error)
            raise
        self._pool.give(connection)
        return rows

    def _keep(self, connection: Any) -> Kept:
        for old in [old for old in self._kept if old.is_closed()]:
            self._forget(old)
        kept = self._kept[connection] = Kept(connection, self._limit)
        return kept

    def _forget(self, connection: Any) -> None:
        kept = self._kept.pop(connection, None)
        if kept is not None:
            kept.end()

    def close(self) -> None:
        """Keep nothing more."""
        for connection in list(self._kept):
            self._forget(connection)
