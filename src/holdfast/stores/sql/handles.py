"""Scripts on the caller's own connection: in the caller's transaction, thread and loop.

Nothing is committed or rolled back here; what the script did becomes true, or not, with everything else of the transaction.

A SQLAlchemy session is always asked through its own execute. The raw connection beneath a session that has executed nothing
yet is outside of its transaction (asyncpg), or the transaction has not begun (SQLite): what is written there is
committed at once, whatever becomes of the session.

Drivers are recognised by what is imported already: who holds a connection of a driver has imported it.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from holdfast.errors import UsageError
from holdfast.stores.sql.handle_words import decoded, lists, percent
from holdfast.stores.sql.script import run_sync

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from holdfast.stores.sql.script import Row, Script, Statement

T = TypeVar("T")

ACCEPTED: Final = (
    "a SQLAlchemy Session, AsyncSession, Connection or AsyncConnection, or a connection of asyncpg, psycopg (sync or async), "
    "sqlite3, PyMySQL or asyncmy"
)
#: A bit of MySQL's server status: a transaction is open.
_IN_TRANSACTION: Final = 1


class Handle(ABC):
    """A caller's connection. `database`: postgresql, sqlite or mysql."""

    is_async: ClassVar[bool] = False
    database: str

    def run(self, script: Callable[[], Script[T]]) -> T:
        """Run a script, here and now. For handles that are not async."""
        raise NotImplementedError

    async def arun(self, script: Callable[[], Script[T]]) -> T:
        """Run a script in the running loop. For async handles."""
        raise NotImplementedError

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: B027 - most handles can not tell
        """Let `call` be made once the transaction is committed, where the handle can tell; else it is not made."""


class _Sync(Handle):
    def run(self, script: Callable[[], Script[T]]) -> T:
        self.begin()
        return run_sync(script(), self.execute)

    def begin(self) -> None:
        """Refuse a handle that is closed or has no transaction; begin one where the driver would do so at the first write."""

    @abstractmethod
    def execute(self, statement: Statement) -> list[Row]:
        """Do a statement; return its rows."""


class _Async(Handle):
    is_async = True

    async def arun(self, script: Callable[[], Script[T]]) -> T:
        self.begin()
        return await _run_async(script(), self.execute)

    def begin(self) -> None:
        """Refuse a handle that is closed or has no transaction."""

    @abstractmethod
    async def execute(self, statement: Statement) -> list[Row]:
        """Do a statement; return its rows."""


async def _run_async(script: Script[T], execute: Callable[[Statement], Awaitable[list[Row]]]) -> T:
    try:
        statement = next(script)
        while True:
            try:
                rows = await execute(statement)
            except Exception as error:  # noqa: BLE001 - the script may know what to do about it
                statement = script.throw(error)
            else:
                statement = script.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer
    finally:
        script.close()


# --- the drivers' own connections ----------------------------------------------------------------------------------


class _Sqlite(_Sync):
    database = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        try:
            is_open = self._connection.in_transaction
        except Exception as error:
            raise _closed(self._connection) from error
        try:
            if not is_open:
                # From Python 3.12 on there is a second word for it.
                if self._connection.isolation_level is None or getattr(self._connection, "autocommit", None) is True:
                    raise _no_transaction("connection.execute('BEGIN IMMEDIATE')")
                # A transaction that begins by reading can not always go on to write.
                self._connection.execute("BEGIN IMMEDIATE")
        except sys.modules["sqlite3"].ProgrammingError as error:
            raise _closed(self._connection) from error

    def execute(self, statement: Statement) -> list[Row]:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        try:
            if statement.many:
                cursor.executemany(statement.sql, statement.args)
                return []
            found: list[Row] = cursor.execute(statement.sql, statement.args).fetchall()
            return found
        finally:
            cursor.close()


class _Psycopg(_Sync):
    database = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        _check_psycopg(self._connection)

    def execute(self, statement: Statement) -> list[Row]:
        import psycopg
        from psycopg.rows import tuple_row

        with psycopg.RawCursor(self._connection, row_factory=tuple_row) as cursor:
            if statement.many:
                cursor.executemany(statement.sql.encode(), [lists(row) for row in statement.args])
                return []
            cursor.execute(statement.sql.encode(), lists(statement.args))
            return cursor.fetchall() if cursor.description else []


class _AsyncPsycopg(_Async):
    database = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        _check_psycopg(self._connection)

    async def execute(self, statement: Statement) -> list[Row]:
        import psycopg
        from psycopg.rows import tuple_row

        async with psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row) as cursor:
            if statement.many:
                await cursor.executemany(statement.sql.encode(), [lists(row) for row in statement.args])
                return []
            await cursor.execute(statement.sql.encode(), lists(statement.args))
            return await cursor.fetchall() if cursor.description else []


def _check_psycopg(connection: Any) -> None:
    if connection.closed:
        raise _closed(connection)
    if connection.autocommit and connection.info.transaction_status.name == "IDLE":
        raise _no_transaction("with connection.transaction():")


class _Asyncpg(_Async):
    database = "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        try:
            is_closed = self._connection.is_closed()
        except Exception as error:
            raise _closed(self._connection) from error
        if is_closed:
            raise _closed(self._connection)
        if not self._connection.is_in_transaction():
            raise _no_transaction("async with connection.transaction():")

    async def execute(self, statement: Statement) -> list[Row]:
        if statement.many:
            await self._connection.executemany(statement.sql, statement.args)
            return []
        found: list[Row] = await self._connection.fetch(statement.sql, *statement.args)
        return found


class _PyMysql(_Sync):
    database = "mysql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        if not self._connection.open:
            raise _closed(self._connection)
        _check_mysql(self._connection)

    def execute(self, statement: Statement) -> list[Row]:
        import pymysql.cursors

        with pymysql.cursors.Cursor(self._connection) as cursor:
            if statement.many:
                cursor.executemany(statement.sql, list(statement.args))
                return []
            cursor.execute(statement.sql, tuple(statement.args) or None)
            return decoded(cursor.description, cursor.fetchall()) if cursor.description else []


class _Asyncmy(_Async):
    database = "mysql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self) -> None:
        if not self._connection.connected:
            raise _closed(self._connection)
        _check_mysql(self._connection)

    async def execute(self, statement: Statement) -> list[Row]:
        from asyncmy.cursors import Cursor

        async with Cursor(self._connection) as cursor:
            if statement.many:
                await cursor.executemany(statement.sql, list(statement.args))
                return []
            await cursor.execute(statement.sql, tuple(statement.args) or None)
            return decoded(cursor.description, await cursor.fetchall()) if cursor.description else []


def _check_mysql(connection: Any) -> None:
    charset = str(connection.character_set_name())
    if not charset.lower().startswith("utf"):
        raise UsageError(f"tx=: expected a connection with charset='utf8mb4', found {charset!r}. Name it.")
    if connection.get_autocommit() and not connection.server_status & _IN_TRANSACTION:
        raise _no_transaction("connection.begin()")


# --- SQLAlchemy ----------------------------------------------------------------------------------------------------


class _Alchemy(_Sync):
    """A Session or a Connection."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self._session = tx if hasattr(tx, "get_bind") and hasattr(tx, "flush") else None
        with _usable():
            bind = tx.get_bind() if self._session is not None else tx
        name = bind.dialect.name
        self.database = "mysql" if name == "mariadb" else name

    def begin(self) -> None:
        if self._session is None and self._tx.closed:
            raise _closed(self._tx)
        with _usable():
            self._begin()

    def _begin(self) -> None:
        # SQLAlchemy begins a transaction with the first thing that is done: of a session that was closed too, unless it was
        # made with close_resets_only=False, for that is a fresh one to it.
        self._connection = self._tx if self._session is None else self._session.connection()
        if self._connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            raise _no_transaction("an engine, or a connection, without isolation_level='AUTOCOMMIT'")
        style = self._connection.dialect.paramstyle
        self._translates = self.database == "postgresql" and style in ("pyformat", "format")
        # With SQLite, SQLAlchemy's transaction begins in the database at the first write only; see _Sqlite.
        if self.database == "sqlite" and not self._connection.connection.driver_connection.in_transaction:
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")

    def execute(self, statement: Statement) -> list[Row]:
        if statement.many:
            rows = [self._words(statement.sql, row) for row in statement.args]
            if rows:
                self._connection.exec_driver_sql(rows[0][0], [args for _, args in rows])
            return []
        sql, args = self._words(statement.sql, statement.args)
        if args:
            result = self._connection.exec_driver_sql(sql, args)
        else:
            result = self._connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        if not result.returns_rows:
            return []
        description = result.cursor.description
        rows = [tuple(row) for row in result]
        return decoded(description, rows) if self.database == "mysql" else rows

    def _words(self, sql: str, args: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        if not self._translates:
            return sql, tuple(args)
        text, order = percent(sql)
        if not order:
            return sql, ()
        return text, tuple(lists([args[place] for place in order]))

    def after_commit(self, call: Callable[[], None]) -> None:
        if self._session is not None:
            from sqlalchemy import event

            session = self._session() if callable(self._session) else self._session  # a scoped one gives its own
            event.listen(session, "after_commit", lambda _: call(), once=True)


@contextmanager
def _usable() -> Iterator[None]:
    """Tell what SQLAlchemy refuses as ours: a session closed for good, one on a closed connection or without any, a
    transaction that has ended within its own `with`.
    """
    from sqlalchemy.exc import InvalidRequestError

    try:
        yield
    except InvalidRequestError as error:
        raise UsageError(
            f"tx=: expected an open session or connection whose transaction goes on, found one that "
            f"SQLAlchemy refuses: {error}"
        ) from error


class _AsyncAlchemy(Handle):
    """An AsyncSession or an AsyncConnection: the sync one within is run in its own greenlet, as SQLAlchemy does."""

    is_async = True

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self._is_connection = hasattr(tx, "sync_connection") and not hasattr(tx, "sync_session")
        with _usable():
            is_closed = self._is_connection and tx.closed
        if is_closed:
            raise _closed(tx)
        self._inner = _Alchemy(tx.sync_connection if self._is_connection else tx.sync_session)
        self.database = self._inner.database

    async def arun(self, script: Callable[[], Script[T]]) -> T:
        found: T = await self._tx.run_sync(lambda _: self._inner.run(script))
        return found

    def after_commit(self, call: Callable[[], None]) -> None:
        self._inner.after_commit(call)


# --- which is which ------------------------------------------------------------------------------------------------

#: Where a class lives, its name there, and what drives its objects.
_KINDS: Final[tuple[tuple[str, str, Callable[[Any], Handle]], ...]] = (
    ("sqlalchemy.ext.asyncio", "AsyncSession", _AsyncAlchemy),
    ("sqlalchemy.ext.asyncio", "AsyncConnection", _AsyncAlchemy),
    ("sqlalchemy.orm", "Session", _Alchemy),
    ("sqlalchemy.orm", "scoped_session", _Alchemy),
    ("sqlalchemy.engine", "Connection", _Alchemy),
    ("sqlite3", "Connection", _Sqlite),
    ("asyncpg", "Connection", _Asyncpg),
    ("asyncpg.pool", "PoolConnectionProxy", _Asyncpg),
    ("psycopg", "Connection", _Psycopg),
    ("psycopg", "AsyncConnection", _AsyncPsycopg),
    ("pymysql.connections", "Connection", _PyMysql),
    ("asyncmy.connection", "Connection", _Asyncmy),
)


def handle_of(tx: object, database: str) -> Handle:
    """Return what drives the caller's connection. Raises UsageError for anything else, closed, or of another database."""
    for module_name, class_name, make in _KINDS:
        module = sys.modules.get(module_name)
        kind = getattr(module, class_name, None)
        if kind is not None and isinstance(tx, kind):
            handle = make(tx)
            if handle.database != database:
                raise _other(f"a {handle.database} one", database)
            return handle
    raise UsageError(f"tx=: expected {ACCEPTED}, found {type(tx).__module__}.{type(tx).__qualname__}.")


def _other(found: str, database: str) -> UsageError:
    return UsageError(
        f"tx=: expected a connection to the store's own database ({database}), found {found}. What is enqueued there would "
        "never be seen: use a connection to the database of the store's URL, or leave tx= out."
    )


def refuse_other(database: str) -> UsageError:
    """Return the error for a connection that reaches another database of the same kind."""
    return _other("one to another database, or one that does not see the tables of the store", database)


def _closed(connection: object) -> UsageError:
    return UsageError(f"tx=: expected an open connection, found a closed one ({type(connection).__qualname__}).")


def _no_transaction(how: str) -> UsageError:
    return UsageError(f"tx=: expected a connection with an open transaction, found none. Begin one: {how}.")
