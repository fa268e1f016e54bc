"""Scripts on PostgreSQL, by asyncpg.

A transaction costs two round trips more than its statements, so a script of single statements runs without. What is
repeated after an error stands in drivers/pooled.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from holdfast.errors import ConfigError, StoreUnavailable
from holdfast.masking import without_secrets
from holdfast.stores.sql.drivers.asyncpg_errors import POOLER, as_ours, meaning_of, state_of
from holdfast.stores.sql.drivers.asyncpg_kept import KeptStatements
from holdfast.stores.sql.drivers.meanings import Meaning
from holdfast.stores.sql.drivers.pool import Pool, end
from holdfast.stores.sql.drivers.pooled import IDLE_TRANSACTION, Failed, PooledRuns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from holdfast.stores.sql.dialects.postgresql import PostgresDialect
    from holdfast.stores.sql.script import Script, Statement

T = TypeVar("T")

VERSION_MIN: Final = 14
#: jit: a plan that has to read a small table whole counts as very dear without `seqscan`, and would be compiled.
_ONE_PLAN: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
_FIRST_QUESTION: Final = "SELECT pg_backend_pid(), extract(epoch FROM clock_timestamp())::float8"
_STATEMENTS: Final = 200
#: A process that stands still in a transaction would keep its locks, and nobody could rescue its jobs.
BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = "
    f"{round(IDLE_TRANSACTION * 1_000)}"
)
#: All statements of a read see one moment: a job that ends meanwhile is found once, live or ended.
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresOptions:
    """How we use a server.

    pool_size: connections of a process and loop. connect_timeout, statement_timeout: seconds until a server that says
    nothing counts as lost. patience: seconds for which a call waits for a server that was there before.
    statement_cache_size: prepared statements a connection keeps; unless given, 200, and 0 behind a pooler.
    probe_every, probe_limit: seconds between two questions to the listening connection, and until it must have answered.
    listen_url: where the listening connection goes, when the URL leads to a pooler that lends connections for a transaction.
    """

    __slots__ = (
        "connect_timeout", "listen_url", "patience", "pool_size", "probe_every", "probe_limit", "statement_cache_size",
        "statement_timeout",
    )  # fmt: skip

    def __init__(
        self,
        *,
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        statement_timeout: float = 30.0,
        patience: float = 5.0,
        statement_cache_size: int | None = None,
        probe_every: float = 9.0,
        probe_limit: float = 5.0,
        listen_url: str = "",
    ) -> None:
        self.pool_size, self.connect_timeout = pool_size, connect_timeout
        self.statement_timeout, self.patience = statement_timeout, patience
        self.statement_cache_size = statement_cache_size
        self.probe_every, self.probe_limit = probe_every, probe_limit
        self.listen_url = listen_url


class AsyncpgDriver(PooledRuns[Any]):
    """Connections to one database. Opened and used in one event loop."""

    def __init__(self, url: str, db: PostgresDialect, options: PostgresOptions | None = None) -> None:
        """`url` as PostgreSQL's own programs take it; what it leaves out is taken from PGHOST and the like."""
        self._url, self._db = url, db
        self.options = options or PostgresOptions()
        self.where, self.statement_timeout = shown(url), self.options.statement_timeout
        self._pool: Pool[Any] | None = None
        self._hot: Pool[Any] | None = None  # for single statements: they are planned once, see _connect_hot
        self._kept: KeptStatements | None = None
        self._plans_once = True
        self.pooled = False  # whether somebody stands between us and the server

    @property
    def db(self) -> PostgresDialect:
        """PostgreSQL's words."""
        return self._db

    # --- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect once, so that a wrong URL or an old server is told here."""
        if self._pool is not None:
            return
        pool = self._make_pool(self.connect)
        connection = await pool.take()
        kept = self.options.statement_cache_size
        await self._learn(connection)
        if kept is None and self.pooled:
            pool.drop(connection)  # it was made to keep statements
        else:
            pool.give(connection)
        self._pool = pool
        self._hot = self._make_pool(self._connect_hot)
        if self.options.statement_cache_size:
            self._kept = KeptStatements(self._hot, self.statement_timeout, self.let_go)

    async def _learn(self, connection: Any) -> None:
        """See what the server's clock says, and whether the connection leads to the server or to a pooler before it.

        A statement that one client of a transaction pooler prepared is found by another under the same name, and may be a
        different one: so none are kept, unless we are told that this pooler can do it.
        """
        async with connection.transaction():
            begin = time.time()
            asked = await connection.prepare(_FIRST_QUESTION, name="")
            pid, there = await asked.fetchrow()
            self._db.ahead = there - (begin + time.time()) / 2
        self.pooled = pid != connection.get_server_pid()
        if self.options.statement_cache_size is None:
            self.options.statement_cache_size = 0 if self.pooled else _STATEMENTS

    def _make_pool(self, connect: Callable[[], Awaitable[Any]]) -> Pool[Any]:
        options = self.options
        return Pool(
            connect,
            size=options.pool_size,
            patience=options.patience,
            told=lambda error: _told(error, self.where),
        )

    async def close(self) -> None:
        """Let all connections go."""
        pools = [pool for pool in (self._pool, self._hot) if pool is not None]
        self._pool = self._hot = None
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        for pool in pools:
            await pool.close()

    def now(self) -> float:
        """The database's time as this process knows it, in seconds since the epoch; that of a test's clock, if one steers."""
        return self._db.guessed_now() / 1e6

    async def _connect_hot(self) -> Any:
        """Return a connection that plans each statement once, without its values.

        The hot statements have one good plan, which tests prove under stale statistics. Left to itself the server makes a new
        one for each call, because a limit or a list of unknown length looks dear: half a millisecond each. The plan is kept
        while the table grows, so it must not be one for an empty table, where reading all of it looks cheapest.
        """
        if not self._plans_once:
            return await self.connect()
        try:
            return await self.connect(**_ONE_PLAN)
        except asyncpg.PostgresError as error:
            if "startup parameter" not in str(error):  # a pooler's way to say that it does not pass that on
                raise
            self._plans_once = False
            return await self.connect()

    async def connect_listening(self) -> Any:
        """Return a connection for LISTEN: past the pooler, if there is one and we were told how."""
        return await self._connect_to(self.options.listen_url or self._url)

    async def ask_listening(self, statement: Statement) -> list[Any]:
        """Ask once by the way of the listening connection. Raises in our words."""
        where = shown(self.options.listen_url or self._url)
        try:
            connection = await self.connect_listening()
        except Exception as error:
            raise _told(error, where) from error
        try:
            rows: list[Any] = await connection.fetch(statement.sql, *statement.args)
        except asyncpg.UndefinedTableError:
            return []
        except Exception as error:
            raise as_ours(error, where) from error
        finally:
            await end(connection)
        return rows

    async def connect(self, **settings: str) -> Any:
        """Return a connection outside the pools. `settings` are the server's."""
        return await self._connect_to(self._url, **settings)

    async def _connect_to(self, url: str, **settings: str) -> Any:
        kept = self.options.statement_cache_size
        connection = await asyncpg.connect(
            url,
            timeout=self.options.connect_timeout,
            statement_cache_size=_STATEMENTS if kept is None else kept,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "holdfast", **settings},
        )
        try:
            refuse_old(connection.get_server_version().major, self.where)
        except ConfigError:
            connection.terminate()
            raise
        return connection

    def suspect(self) -> None:
        """The way to the server was found broken: trust no connection."""
        for pool in (self._pool, self._hot):
            if pool is not None:
                pool.suspect()

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(
        self, script: Callable[[], Script[T]], *, write: bool = True, single: bool = False, repeats: bool = False
    ) -> T:
        """Run a script in one transaction; with `single` each of its statements is one of its own.

        `repeats`: doing it twice is the same as once, so that an unknown outcome is resolved by doing it again.
        """
        pool = self._hot if single else self._pool
        return await self.run_again(lambda: _Run(write=write, single=single), pool, script, repeats=repeats)

    async def run_flow(self, script: Callable[[], Script[T]]) -> T:
        """Run a script of statements of the hot path in one transaction; rows may be copied."""
        return await self.run_again(_FlowRun, self._hot, script, repeats=False)

    async def ask(self, sql: str, args: Sequence[Any]) -> list[Any] | None:
        """Do one statement of the hot path in a transaction of its own; None: not here, run a script.

        Raises OutcomeUnknown when the connection was lost before the answer came; other errors of the database are for a
        script to meet again. StoreUnavailable, StoreClosed.
        """
        if self._kept is None:
            return None
        try:
            return await self._kept.fetch(sql, args)
        except Failed as failed:
            if self.meaning(failed.error) is Meaning.LOST:
                raise self.unknown(failed.error) from failed.error
            return None

    def meaning(self, error: BaseException) -> Meaning:
        """What an error of PostgreSQL's means."""
        return meaning_of(error)

    def on_loss(self, error: BaseException) -> None:
        """A pooler that came to stand there later is recognised by its errors: from now on no statements are kept."""
        if state_of(error) in POOLER:
            self.options.statement_cache_size = 0
            self._kept = None
            for pool in (self._pool, self._hot):
                if pool is not None:
                    pool.forget()  # connections that were made with a cache

    async def roll_back(self, connection: Any) -> None:
        """End the transaction of a connection, if there is one."""
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK")


class _Run:
    """One run of a script on one connection. unknown: a loss now leaves it open whether something was stored."""

    __slots__ = ("_write", "single", "unknown")

    def __init__(self, *, write: bool, single: bool) -> None:
        self._write, self.single = write, single
        self.unknown = False

    async def through(self, connection: Any, script: Script[T]) -> T:
        """Run it, and commit. Raises Failed for what the database said, and whatever the script raises."""
        if self.single:
            self.unknown = self._write
            return await self._statements(connection, script)
        await self._ask(connection, BEGIN if self._write else _BEGIN_READ)
        answer = await self._statements(connection, script)
        self.unknown = self._write
        await self._ask(connection, "COMMIT")
        return answer

    async def _statements(self, connection: Any, script: Script[T]) -> T:
        try:
            statement = next(script)
            while True:
                statement = script.send(await self._do(connection, statement))
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    async def _do(self, connection: Any, statement: Statement) -> list[Any]:
        try:
            if statement.many:
                await connection.executemany(statement.sql, statement.args)
                return []
            rows: list[Any] = await connection.fetch(statement.sql, *statement.args)
            return rows
        except Exception as error:
            raise Failed(error) from error

    async def _ask(self, connection: Any, sql: str) -> None:
        try:
            await connection.execute(sql)
        except Exception as error:
            raise Failed(error) from error


class _FlowRun(_Run):
    """The same where rows are copied as they are made."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(write=True, single=False)

    async def _do(self, connection: Any, statement: Statement) -> list[Any]:
        if statement.copy is None:
            return await super()._do(connection, statement)
        pieces = _Pieces(statement.copy)
        table, schema, columns = statement.args
        try:
            await connection.copy_to_table(
                table, schema_name=schema or None, columns=columns, source=pieces, format="binary"
            )
        except Exception as error:
            if pieces.error is not None:
                raise pieces.error from pieces.error.__cause__  # the word of who makes them goes before the database's
            raise Failed(error) from error
        return []


class _Pieces(AsyncIterator[bytes]):
    """Pieces of what is copied: each goes on its way, and others have a turn, before the next is made."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.error: Exception | None = None

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        try:
            piece = next(self._pieces, None)
        except Exception as error:
            self.error = error
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece


#: Classes of SQLSTATE with which a server refuses a setting of the query: it knows none of this name, or not this value.
_WRONG_OPTION: Final = ("22", "42")


def _told(error: Exception, where: str) -> Exception:
    """Why we could not connect, in our words."""
    if isinstance(error, ValueError):  # the driver's way to say that a URL is wrong
        return ConfigError(
            f"store URL: expected postgresql://user:password@host:port/database, found {where}: {error}."
        )
    told = as_ours(error, where)
    if isinstance(told, ConfigError | StoreUnavailable):
        return told
    if state_of(error)[:2] in _WRONG_OPTION:
        return ConfigError(
            f"store URL: expected options that the server knows, found {where}: {error}. Correct the query."
        )
    return StoreUnavailable(f"{where} did not let us connect: {error}.")


def refuse_old(version: int, where: str) -> None:
    """Raise ConfigError for a server that is too old. `version`: the first number of its version."""
    if version < VERSION_MIN:
        raise ConfigError(f"{where}: expected PostgreSQL {VERSION_MIN} or newer, found {version}. Update the server.")


def shown(url: str) -> str:
    """Return where a URL leads, for messages: without user and password.

    >>> shown("postgresql://me:secret@db.example:6432/jobs")
    'PostgreSQL at db.example:6432/jobs'
    """
    try:
        parts = urlsplit(without_secrets(url))
        place = parts.netloc.rpartition("@")[2] + parts.path
    except ValueError:
        place = "the given URL"
    query = f" ({parts.query})" if parts.query else ""
    return f"PostgreSQL at {place or 'the default host'}{query}"
