"""The parts of a store on MySQL or MariaDB, put together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.clock import SystemClock
from holdfast.errors import ConfigError, StoreError
from holdfast.store import Capabilities
from holdfast.stores.sql.dialects.mysql import MysqlDialect
from holdfast.stores.sql.drivers.asyncmy import AsyncmyDriver, MysqlOptions, Place
from holdfast.stores.sql.schema import PREFIX, check_prefix
from holdfast.stores.sql.store import SqlStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.clock import Clock
    from holdfast.job import commands as c
    from holdfast.job.draw import Draw
    from holdfast.stores.wakeups import Signal

_CAPABILITIES: Final = Capabilities(durable=True, push=True, many_processes=True, transactional=True, sticky=True)
#: Options that may stand in the URL as well, for programs that know nothing but a URL.
_IN_URL: Final = {
    "prefix": str, "pool_size": int, "connect_timeout": float, "statement_timeout": float, "patience": float,
}  # fmt: skip
_OF_PLACE: Final = ("unix_socket", "ssl", "ssl_ca", "ssl_cert", "ssl_key")
#: Seconds between two looks at what others did, while somebody waits: the first, and the most after nothing came for long.
POLL_FIRST, POLL_MAX = 0.02, 1.0


class Watch:
    """Looks at a number that grows with every piece of news; the longer nothing came, the more rarely."""

    def __init__(self, look: Callable[[], Awaitable[int]]) -> None:
        """look: the number."""
        self._look = look
        self._seen: int | None = None
        self._signals: tuple[Signal, ...] = ()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self, work: Signal, ends: Signal, _cancel_calls: set[Callable[[], None]]) -> None:
        """Begin. Cancels are told by the next beat."""
        self._signals = (work, ends)

    async def stop(self) -> None:
        """End."""
        self._signals = ()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self, signal: Signal, seen: int, timeout: float) -> bool:
        """Wait for `signal`, and look what others do meanwhile."""
        self._waiting += 1
        try:
            if self._task is None and self._signals and timeout > 0:
                self._task = asyncio.get_running_loop().create_task(self._poll(), name="holdfast-watch")
            return await signal.wait(seen, timeout)
        finally:
            self._waiting -= 1

    async def _poll(self) -> None:
        pause = POLL_FIRST
        try:
            while self._waiting:
                pause = POLL_FIRST if await self._news() else min(POLL_MAX, pause * 2)
                await asyncio.sleep(pause)
        finally:
            self._task = None

    async def _news(self) -> bool:
        """Look once; tell those who wait if there is something new."""
        try:
            number = await self._look()
        except StoreError:
            number = -1  # who waits finds out by itself, with an error of its own
        if number == self._seen:
            return False
        self._seen = number
        for signal in self._signals:
            signal.notify()
        return True


class MysqlStore(SqlStore):
    """Jobs in a MySQL or MariaDB database."""

    def __init__(self, driver: AsyncmyDriver, again: Callable[[], MysqlStore], **parts: Any) -> None:
        """again: makes another store on the same database, with one connection."""
        watch = Watch(lambda: driver.run(driver.db.pulse, repeats=True))
        super().__init__(driver, watch=watch, capabilities=_CAPABILITIES, **parts)
        self._again = again

    def beat_source(self) -> BeatSource:
        """What a heart beats through in a thread and loop of its own: a connection of its own."""
        return BeatSource(self._again())


class BeatSource:
    """Beats alone, in a loop of its own; opened by the first."""

    def __init__(self, store: MysqlStore) -> None:
        self._store = store

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        await self._store.open()
        return await self._store.heartbeat(beat)

    async def close(self) -> None:
        """Let the connection go."""
        await self._store.close()


def make_mysql(
    url: str,
    *,
    clock: Clock,
    draw: Draw | None = None,
    auto_migrate: bool = False,
    statistics: bool = True,
    **options: Any,
) -> MysqlStore:
    """Return the store of a database, not opened yet.

    Options, as keywords or in the URL's query: prefix of the tables; see MysqlOptions for the others. In the URL alone:
    unix_socket, and ssl=true or ssl_ca, ssl_cert, ssl_key with the paths of files.
    """
    place, found = place_of(url)
    options = {**found, **options}
    unknown = options.keys() - _IN_URL.keys()
    if unknown:
        raise ConfigError(
            f"mysql: store: unknown option {', '.join(sorted(unknown))}. Expected some of {', '.join(_IN_URL)}, "
            "auto_migrate, statistics."
        )
    prefix = check_prefix(options.pop("prefix", PREFIX))
    steered = None if type(clock) is SystemClock else clock

    def make(more: dict[str, Any]) -> MysqlStore:
        db = MysqlDialect(prefix, steered)
        db.rollup.enabled = statistics
        driver = AsyncmyDriver(place, db, steered, MysqlOptions(**{**options, **more}))
        migrates = auto_migrate and not more
        return MysqlStore(driver, lambda: make({"pool_size": 1}), auto_migrate=migrates, clock=clock, draw=draw)

    return make({})


def place_of(url: str) -> tuple[Place, dict[str, Any]]:
    """Return where a URL leads, and the options of ours that stood in it. Raises ConfigError for one that leads nowhere."""
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError as error:
        raise ConfigError(f"store URL: expected mysql://user:password@host:port/database: {error}.") from error
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise ConfigError(
            "store URL: expected mysql://user:password@host:port/database, found "
            f"{'no database' if not database else f'the path {parts.path!r}'}. Name the one that holds the jobs."
        )
    found: dict[str, Any] = {}
    of_place: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _OF_PLACE:
            of_place[name] = value
        else:
            found[name] = _option(name, value)
    place = Place(
        parts.hostname or "127.0.0.1",
        port,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password or ""),
        database,
        of_place.get("unix_socket"),
        _ssl(of_place),
    )
    return place, found


def _option(name: str, value: str) -> Any:
    if name not in _IN_URL:
        known = ", ".join((*_IN_URL, *_OF_PLACE))
        raise ConfigError(f"store URL: unknown option {name!r}. Expected some of {known}.")
    try:
        return _IN_URL[name](value)
    except ValueError as error:
        raise ConfigError(f"store URL: {name}: expected a number, found {value!r}.") from error


def _ssl(of_place: dict[str, str]) -> dict[str, str] | bool | None:
    files = {name.removeprefix("ssl_"): value for name, value in of_place.items() if name.startswith("ssl_")}
    return files or (True if of_place.get("ssl", "").lower() in ("1", "true", "yes") else None)
