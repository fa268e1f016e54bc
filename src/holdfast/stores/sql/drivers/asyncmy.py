"""Scripts on MySQL and MariaDB, by asyncmy.

Connections have autocommit off: the first statement begins the transaction, so that a short one costs its statements and
a COMMIT. Writes run at READ COMMITTED, where locks are those of the rows that were found; reads see one moment.

What is repeated after an error stands in drivers/pooled.py.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import asyncmy
from asyncmy.constants import FIELD_TYPE
from asyncmy.converters import conversions

from holdfast.errors import ConfigError, StoreUnavailable
from holdfast.stores.sql.drivers.asyncmy_errors import as_ours, meaning_of
from holdfast.stores.sql.drivers.pool import Pool
from holdfast.stores.sql.drivers.pooled import IDLE_TRANSACTION, Failed, PooledRuns

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.stores.sql.dialects.mysql import MysqlDialect
    from holdfast.stores.sql.drivers.meanings import Meaning
    from holdfast.stores.sql.script import Row, Script, Statement

T = TypeVar("T")

MYSQL_MIN: Final = (8, 0, 19)
MARIADB_MIN: Final = (10, 6)
_SESSION: Final = (
    "SET SESSION transaction_isolation = 'READ-COMMITTED', time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
)
#: MariaDB before 11.1 knows the isolation under its old name only. It ends a transaction in which nobody says anything: a
#: process that stands still would keep its locks, and nobody could rescue its jobs. MySQL has no such setting.
_SESSION_OLD: Final = (
    _SESSION.replace("transaction_isolation", "tx_isolation")
    + f", idle_transaction_timeout = {round(IDLE_TRANSACTION)}"
)
#: All statements of a read see one moment: a job that ends meanwhile is found once, live or ended.
_READ: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY"
_NAMED_LOCK: Final = "SELECT GET_LOCK("
#: VARBINARY columns hold our texts, BLOB columns bytes.
_TEXTS: Final = (FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING)


class MysqlOptions:
    """How we use a server.

    pool_size: connections of a process and loop. connect_timeout, statement_timeout: seconds until a server that says
    nothing counts as lost. patience: seconds for which a call waits for a server that was there before.
    """

    __slots__ = ("connect_timeout", "patience", "pool_size", "statement_timeout")

    def __init__(
        self,
        *,
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        statement_timeout: float = 30.0,
        patience: float = 5.0,
    ) -> None:
        self.pool_size, self.connect_timeout = pool_size, connect_timeout
        self.statement_timeout, self.patience = statement_timeout, patience


class Place(NamedTuple):
    """Where a server is, and who we are there."""

    host: str
    port: int
    user: str | None  # None: whoever runs this process
    password: str
    database: str
    unix_socket: str | None = None
    ssl: dict[str, str] | bool | None = None

    def __str__(self) -> str:
        return f"MySQL at {self.unix_socket or f'{self.host}:{self.port}'}/{self.database}"


class Link:
    """One connection, as the pool and a run use it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._cursor = raw.cursor()
        self.changed = False  # whether a transaction may be open
        self._named_lock = False

    async def ask(self, sql: str, args: Any = None) -> list[Row]:
        """Do a statement, return its rows."""
        cursor = self._cursor
        self.changed = True
        self._named_lock = self._named_lock or sql.startswith(_NAMED_LOCK)
        await cursor.execute(sql, args or None)
        return list(await cursor.fetchall()) if cursor.description else []

    async def end(self, word: str) -> None:
        """COMMIT or ROLLBACK. A named lock belongs to the connection, and is let go with the transaction."""
        await self.ask(word)
        if self._named_lock:
            await self.ask("DO RELEASE_ALL_LOCKS()")
            self._named_lock = False
        self.changed = False

    def is_closed(self) -> bool:
        """Whether it is known to be of no more use."""
        return not self._raw.connected or self._raw._stream_broken

    def terminate(self) -> None:
        """Let it go without a word; who waits for an answer is told that there is none."""
        transport = self._raw._transport
        if transport is not None:
            transport.abort()
        self._raw.close()

    async def close(self, *, timeout: float) -> None:
        """Say good-bye to the server, and wait not long."""
        try:
            async with asyncio.timeout(timeout):
                await self._raw.ensure_closed()
        except Exception:  # noqa: BLE001 - it may be dead already, and nothing is pending on it
            self.terminate()


class AsyncmyDriver(PooledRuns[Link]):
    """Connections to one database. Opened and used in one event loop."""

    def __init__(self, place: Place, db: MysqlDialect, clock: Clock | None, options: MysqlOptions) -> None:
        """`clock` is a test's; else the server's counts."""
        self.db, self.place, self.options = db, place, options
        self.where, self.statement_timeout = str(place), options.statement_timeout
        self._clock = clock
        self._ahead = 0.0  # how far the server's clock is ahead of ours, in seconds
        self._pool: Pool[Link] | None = None

    def now(self) -> float:
        """The server's clock as it was when we looked last, or a test's."""
        return self._clock.now() if self._clock is not None else time.time() + self._ahead

    # --- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect once, so that a wrong URL or an old server is told here."""
        if self._pool is not None:
            return
        options, where = self.options, self.where
        pool = Pool(
            self.connect, size=options.pool_size, patience=options.patience, told=lambda error: _told(error, where)
        )
        pool.give(await pool.take())
        self._pool = pool
        if self._clock is None:
            before = time.time()
            there = await self.run(self.db.now, write=False)
            self._ahead = there / 1e6 - (before + time.time()) / 2

    async def close(self) -> None:
        """Let all connections go."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def connect(self) -> Link:
        """Return a connection outside the pool."""
        place = self.place
        raw = await asyncmy.connect(
            host=place.host,
            port=place.port,
            user=place.user,
            password=place.password,
            database=place.database,
            unix_socket=place.unix_socket,
            ssl=place.ssl,
            charset="utf8mb4",
            autocommit=False,
            connect_timeout=self.options.connect_timeout,
            conv=_CONVERSIONS,
        )
        link = Link(raw)
        try:
            await self._prepare(link, raw)
        except BaseException:
            link.terminate()
            raise
        return link

    async def _prepare(self, link: Link, raw: Any) -> None:
        said = str(raw.get_server_info())
        self.db.mariadb = "mariadb" in said.lower()
        refuse_old(said, self.where, mariadb=self.db.mariadb)
        await link.ask(_SESSION_OLD if self.db.mariadb else _SESSION)
        await link.end("COMMIT")

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(
        self, script: Callable[[], Script[T]], *, write: bool = True, single: bool = False, repeats: bool = False
    ) -> T:
        """Run a script in one transaction. `single` is not needed here: a transaction begins by itself.

        `repeats`: doing it twice is the same as once, so that an unknown outcome is resolved by doing it again.
        """
        return await self.run_again(lambda: _Run(write=write), self._pool, script, repeats=repeats)

    def meaning(self, error: BaseException) -> Meaning:
        """What an error of the server's or the driver's means."""
        return meaning_of(error)

    def on_loss(self, error: BaseException) -> None:
        """One connection was lost: others that wait for use may be too."""
        if self._pool is not None:
            self._pool.forget()

    async def roll_back(self, connection: Link) -> None:
        """End the transaction of a connection, if there is one."""
        if connection.changed:
            await connection.end("ROLLBACK")


class _Run:
    """One run of a script on one connection. unknown: a loss now leaves it open whether something was stored."""

    __slots__ = ("_write", "unknown")

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self.unknown = False

    async def through(self, link: Link, script: Script[T]) -> T:
        """Run it, and commit. Raises Failed for what the database said, and whatever the script raises."""
        if not self._write:
            for statement in _READ:
                await _ask(link, statement)
        answer = await self._statements(link, script)
        if not link.changed:
            return answer
        self.unknown = self._write
        try:
            await link.end("COMMIT")
        except Exception as error:
            raise Failed(error) from error
        return answer

    async def _statements(self, link: Link, script: Script[T]) -> T:
        try:
            statement = next(script)
            while True:
                statement = script.send(await _do(link, statement))
        except StopIteration as stop:
            answer: T = stop.value
            return answer


async def _do(link: Link, statement: Statement) -> list[Row]:
    if not statement.many:
        return await _ask(link, statement.sql, statement.args)
    for row in statement.args:
        await _ask(link, statement.sql, row)
    return []


async def _ask(link: Link, sql: str, args: Any = None) -> list[Row]:
    try:
        return await link.ask(sql, args)
    except Exception as error:
        raise Failed(error) from error


def _told(error: Exception, where: str) -> Exception:
    told = as_ours(error, where)
    if isinstance(told, ConfigError | StoreUnavailable):
        return told
    return StoreUnavailable(f"{where} did not let us connect: {error}.")


def _text(value: bytes | str) -> str:
    """A column that holds text, in whatever way the driver hands it over."""
    return value if isinstance(value, str) else value.decode()


_CONVERSIONS: Final = {**conversions, **dict.fromkeys(_TEXTS, _text)}


def refuse_old(said: str, where: str, *, mariadb: bool) -> None:
    """Raise ConfigError for a server that lacks what the statements use: SKIP LOCKED, and rows of values."""
    # MariaDB may go ahead of its version with one that old clients understand: 5.5.5-10.11.6-MariaDB.
    found = re.findall(r"(\d+)\.(\d+)(?:\.(\d+))?", said.removeprefix("5.5.5-"))
    version = tuple(int(part or 0) for part in found[0]) if found else (0,)
    least = MARIADB_MIN if mariadb else MYSQL_MIN
    if version < least:
        wanted = f"{'MariaDB' if mariadb else 'MySQL'} {'.'.join(map(str, least))} or newer"
        raise ConfigError(f"{where}: expected {wanted}, found {said}. Update the server.")
