"""Scripts on MySQL and MariaDB, by asyncmy.

Connections have autocommit off: the first statement begins the transaction, so that a short one costs its statements and
a COMMIT. Writes run at READ COMMITTED, where locks are those of the rows that were found; reads see one moment.

Which errors are repeated, and how:

- The server rolled back (deadlock, a lock that was waited for too long, a key that another stored first): the script again.
- The connection was lost before the commit was sent: nothing was stored, the script again on another connection.
- It was lost after: the outcome is not known. Scripts that change nothing when repeated say so (`repeats`), and are
  repeated; for others OutcomeUnknown is raised, and who knows the ids looks them up.

A caller that is cancelled leaves its connection in the middle of an answer: that connection is cut, never used again.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import asyncmy
from asyncmy.constants import FIELD_TYPE
from asyncmy.converters import conversions

from holdfast.errors import ConfigError, OutcomeUnknown, StoreClosed, StoreUnavailable
from holdfast.stores.sql.drivers.asyncmy_errors import Meaning, as_ours, meaning_of
from holdfast.stores.sql.drivers.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.stores.sql.dialects.mysql import MysqlDialect
    from holdfast.stores.sql.script import Row, Script, Statement

T = TypeVar("T")

MYSQL_MIN: Final = (8, 0, 1)
MARIADB_MIN: Final = (10, 6)
_TRIES_MAX: Final = 30
_PAUSE_MAX: Final = 0.1
_RENEWALS_MAX: Final = 3
_SESSION: Final = (
    "SET SESSION transaction_isolation = 'READ-COMMITTED', time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
)
#: MariaDB before 11.1 knows the isolation under its old name only.
_SESSION_OLD: Final = _SESSION.replace("transaction_isolation", "tx_isolation")
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


class AsyncmyDriver:
    """Connections to one database. Opened and used in one event loop."""

    def __init__(self, place: Place, db: MysqlDialect, clock: Clock | None, options: MysqlOptions) -> None:
        """`clock` is a test's; else the server's counts."""
        self.db, self.place, self.options = db, place, options
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
        options, where = self.options, str(self.place)
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
        refuse_old(said, str(self.place), mariadb=self.db.mariadb)
        await link.ask(_SESSION_OLD if self.db.mariadb else _SESSION)
        await link.end("COMMIT")

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(
        self, script: Callable[[], Script[T]], *, write: bool = True, single: bool = False, repeats: bool = False
    ) -> T:
        """Run a script in one transaction. `single` is not needed here: a transaction begins by itself.

        `repeats`: doing it twice is the same as once, so that an unknown outcome is resolved by doing it again.
        """
        tries = renewals = 0
        while True:
            run = _Run(write=write)
            try:
                return await self._once(run, script())
            except _Failed as failed:
                error = failed.error
            meaning = meaning_of(error)
            tries += 1
            if meaning is Meaning.AGAIN and tries < _TRIES_MAX:
                await asyncio.sleep(random.uniform(0.0, min(_PAUSE_MAX, 0.002 * 2**tries)))
                continue
            if meaning is Meaning.LOST and run.unknown and not repeats:
                raise OutcomeUnknown(
                    f"the connection to {self.place} was lost before it said whether this was stored: {error}. "
                    "Ask by the job's id, or try again with the same id."
                ) from error
            renewals += 1
            if meaning in (Meaning.LOST, Meaning.RENEW) and renewals <= _RENEWALS_MAX:
                continue
            raise as_ours(error, str(self.place)) from error

    async def _once(self, run: _Run, script: Script[T]) -> T:
        pool = self._pool
        if pool is None:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        link = await pool.take()
        # A server that vanished without a word answers nothing; the driver alone would wait for ever.
        watch = asyncio.get_running_loop().call_later(self.options.statement_timeout, link.terminate)
        try:
            answer = await run.through(link, script)
        except _Failed as failed:
            if meaning_of(failed.error) in (Meaning.LOST, Meaning.RENEW):
                pool.drop(link)
                pool.suspect()
            else:
                await _give_clean(pool, link)
            raise
        except BaseException as error:
            # The script's own word (a conflict) comes from a connection that can be used on; a cancelled wait does not.
            if isinstance(error, Exception):
                await _give_clean(pool, link)
            else:
                pool.drop(link)
            raise
        finally:
            watch.cancel()
            script.close()
        pool.give(link)
        return answer


async def _give_clean(pool: Pool[Link], link: Link) -> None:
    """Take a connection back after an error: rolled back, or not at all."""
    try:
        if link.changed:
            await link.end("ROLLBACK")
    except Exception:  # noqa: BLE001 - the server rolls back what was begun on a connection that is gone
        pool.drop(link)
    except BaseException:
        pool.drop(link)
        raise
    else:
        pool.give(link)


class _Failed(Exception):
    """The database said no, or nothing any more."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class _Run:
    """One run of a script on one connection. unknown: a loss now leaves it open whether something was stored."""

    __slots__ = ("_write", "unknown")

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self.unknown = False

    async def through(self, link: Link, script: Script[T]) -> T:
        """Run it, and commit. Raises _Failed for what the database said, and whatever the script raises."""
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
            raise _Failed(error) from error
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
        raise _Failed(error) from error


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
