"""Enqueue and settle within the caller's own transaction."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.job import commands as c
from holdfast.stores.sql.cold import definitions
from holdfast.stores.sql.handles import Handle, handle_of, refuse_other
from holdfast.stores.sql.script import Step
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence

    from holdfast.job.model import Job, NewJob
    from holdfast.stores.sql.script import Script

T = TypeVar("T")


class Ready(Generic[T]):
    """An answer that is there already; it may be awaited all the same."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, T]:
        """Return the answer at once."""
        yield from ()
        return self.value


class TransactionCalls(SqlBase):
    """What a store on a database can do in a transaction of somebody else.

    With a handle that is not async a call is made here and now, in the caller's thread, and its answer is Ready; with an
    async one the answer has to be awaited. Whether it stays is the transaction's to say.
    """

    #: Which database this is, as its own tables say; read when the store is opened.
    database_id = ""

    def enqueue_within(
        self,
        tx: object,
        jobs: Sequence[NewJob],
        *,
        on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE,
        define: Sequence[c.Define] = (),
    ) -> Awaitable[list[c.Enqueued]]:
        """Store all jobs or none, with the caller's transaction. Raises UsageError, and what `enqueue` raises."""
        command = c.Enqueue(jobs=tuple(jobs), on_duplicate=on_duplicate)

        def script(step: Step) -> Script[list[c.Enqueued]]:
            if define:
                yield from definitions.define(step, define)
            return (yield from self._hot.enqueue(step, command))

        return self._within(tx, script)

    def settle_within(self, tx: object, settlements: Sequence[c.Settlement[Job]]) -> Awaitable[list[c.Settled]]:
        """End attempts with the caller's transaction. One that is refused is the caller's reason to roll back."""
        return self._within(tx, lambda step: self._hot.settle(step, settlements))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Begin a transaction on a connection of its own; give the connection. Committed at the end, or rolled back."""
        self._check_open()
        driver: Any = self._driver
        if self._db.name == "sqlite":
            async with _on_sqlite(driver) as connection:
                yield connection
        elif self._db.name == "postgresql":
            connection = await driver.connect()
            try:
                async with connection.transaction():
                    yield connection
            finally:
                await connection.close()
        else:
            async with _on_mysql(driver) as connection:
                yield connection

    def _within(self, tx: object, make: Callable[[Step], Script[T]]) -> Awaitable[T]:
        self._check_open()
        handle = handle_of(tx, self._db.name)
        step = Step(self._db, self._draw, within=True)

        def script() -> Script[T]:
            yield from self._check_database(step)
            answer = yield from make(step)
            if step.news:
                yield from self._db.announce(step)
            return answer

        if handle.is_async:
            return self._awaited(handle, script, step)
        try:
            answer = handle.run(script)
        except BaseException:
            step.take_back()
            raise
        handle.after_commit(lambda: self._tell(step))
        return Ready(answer)

    async def _awaited(self, handle: Handle, script: Callable[[], Script[T]], step: Step) -> T:
        try:
            answer = await handle.arun(script)
        except BaseException:
            step.take_back()
            raise
        handle.after_commit(lambda: self._tell(step))
        return answer

    def _check_database(self, step: Step) -> Script[None]:
        # First whether the tables are there: a statement that fails would end a transaction on PostgreSQL.
        found = (yield from identity(step)) if (yield from self._db.has_tables()) else ""
        if not found or found != self.database_id:
            raise refuse_other(self._db.name)


@asynccontextmanager
async def _on_sqlite(driver: Any) -> AsyncIterator[Any]:
    connection = sqlite3.connect(driver._path, timeout=driver._busy_timeout, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()


@asynccontextmanager
async def _on_mysql(driver: Any) -> AsyncIterator[Any]:
    link = await driver.connect()
    connection = link._raw
    try:
        if driver.db.mariadb:
            # Our own transactions are cut when they stand still; a handler may think about its own as long as it has the job.
            await link.ask("SET SESSION idle_transaction_timeout = 0")
        await connection.begin()
        try:
            yield connection
        except BaseException:
            await connection.rollback()
            raise
        await connection.commit()
    finally:
        await link.close(timeout=5.0)


def identity(step: Step) -> Script[str]:
    """Which database this is."""
    rows = yield step.db.q("SELECT value FROM {meta} WHERE name = 'database'")
    return str(rows[0][0]) if rows else ""
