"""Scripts on the connections of a pool: what is repeated, and how a connection is given back.

- The server rolled back (deadlock, serialization, a lock that was waited for too long, a key that another stored first): the
  whole script again.
- The connection was lost before the commit was sent: nothing was stored, the whole script again on another connection.
- It was lost after: the outcome is not known. Scripts that change nothing when repeated say so (`repeats`), and are
  repeated; for others OutcomeUnknown is raised, and who knows the ids looks them up.

A caller that is cancelled leaves its connection in the middle of an answer: that connection is cut, never used again.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from holdfast.errors import OutcomeUnknown, StoreClosed, StoreUnavailable
from holdfast.stores.sql.drivers.meanings import Meaning, in_our_words
from holdfast.stores.sql.drivers.pool import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.stores.sql.drivers.pool import Pool
    from holdfast.stores.sql.script import Script

T = TypeVar("T")
C = TypeVar("C", bound=Connection)
C_contra = TypeVar("C_contra", bound=Connection, contravariant=True)

#: Seconds for which a server keeps a transaction in which nobody says anything.
IDLE_TRANSACTION: Final = 5.0
NOT_OPEN: Final = "the store is not open: await store.open() first, and do not use it after close()."
_TRIES_MAX: Final = 30
_PAUSE_MAX: Final = 0.1
_RENEWALS_MAX: Final = 3
_GONE: Final = (Meaning.LOST, Meaning.RENEW)


class Failed(Exception):
    """The database said no, or nothing any more."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class Run(Protocol[C_contra]):
    """One run of a script on one connection. unknown: a loss now leaves it open whether something was stored."""

    unknown: bool

    async def through(self, connection: C_contra, script: Script[T]) -> T:
        """Run it, and commit. Raises Failed for what the database said, and whatever the script raises."""
        ...


class PooledRuns(Generic[C]):
    """Runs scripts, and repeats them where that is right. A driver says what its errors mean and how to roll back."""

    where: str  # the server, for messages
    statement_timeout: float  # seconds until a server that says nothing counts as lost

    def meaning(self, error: BaseException) -> Meaning:
        """What an error means."""
        raise NotImplementedError

    def on_loss(self, error: BaseException) -> None:
        """Note what the loss of a connection tells about others."""

    async def roll_back(self, connection: C) -> None:
        """End the transaction of a connection, if there is one."""
        raise NotImplementedError

    async def run_again(
        self, make: Callable[[], Run[C]], pool: Pool[C] | None, script: Callable[[], Script[T]], *, repeats: bool
    ) -> T:
        """Run a script through a fresh `make()`, until it went well or must not be repeated."""
        tries = renewals = 0
        unknown = False
        while True:
            run = make()
            try:
                return await self._once(run, pool, script())
            except Failed as failed:
                error = failed.error
            except StoreUnavailable as away:
                raise (self.unknown(away) if unknown else away) from away.__cause__
            meaning = self.meaning(error)
            unknown |= meaning is Meaning.LOST and run.unknown
            tries += 1
            if meaning is Meaning.AGAIN and tries < _TRIES_MAX:
                await asyncio.sleep(random.uniform(0.0, min(_PAUSE_MAX, 0.002 * 2**tries)))
                continue
            if unknown and not repeats:
                raise self.unknown(error) from error
            renewals += 1
            if meaning in _GONE and renewals <= _RENEWALS_MAX:
                continue
            raise (self.unknown(error) if unknown else in_our_words(error, meaning, self.where)) from error

    def unknown(self, error: Exception) -> OutcomeUnknown:
        """Say that a connection was lost before it said whether something was stored."""
        return OutcomeUnknown(
            f"the connection to {self.where} was lost before it said whether this was stored: {error}. "
            "Ask by the job's id, or try again with the same id."
        )

    async def _once(self, run: Run[C], pool: Pool[C] | None, script: Script[T]) -> T:
        if pool is None:
            raise StoreClosed(NOT_OPEN)
        connection = await pool.take()
        # A server that vanished without a word answers nothing; the driver alone would wait for ever.
        watch = asyncio.get_running_loop().call_later(self.statement_timeout, connection.terminate)
        try:
            answer = await run.through(connection, script)
        except BaseException as error:
            await self.let_go(pool, connection, error)
            raise
        finally:
            watch.cancel()
            script.close()
        pool.give(connection)
        return answer

    async def let_go(self, pool: Pool[C], connection: C, error: BaseException) -> None:
        """Take a connection back after an error that was met with it."""
        if isinstance(error, Failed) and self.meaning(error.error) in _GONE:
            pool.drop(connection)
            self.on_loss(error.error)
        elif isinstance(error, Exception):
            # The script's own word (a conflict) comes from a connection that can be used on.
            await self._give_clean(pool, connection)
        else:
            pool.drop(connection)  # a wait that was cancelled: the answer may still come

    async def _give_clean(self, pool: Pool[C], connection: C) -> None:
        """Take a connection back after an error: rolled back, or not at all."""
        try:
            await self.roll_back(connection)
        except Exception:  # noqa: BLE001 - the server rolls back what was begun on a connection that is gone
            pool.drop(connection)
        except BaseException:
            pool.drop(connection)
            raise
        else:
            pool.give(connection)
