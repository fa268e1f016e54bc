"""The parts of a store on PostgreSQL, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from holdfast.clock import SystemClock
from holdfast.errors import ConfigError
from holdfast.store import Capabilities
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver, PostgresOptions
from holdfast.stores.sql.notify import Announcer, Listener, notification
from holdfast.stores.sql.schema import PREFIX, check_prefix
from holdfast.stores.sql.script import Step
from holdfast.stores.sql.store import SqlStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.job import commands as c
    from holdfast.job.draw import Draw
    from holdfast.stores.sql.script import Script

T = TypeVar("T")

_CAPABILITIES = Capabilities(durable=True, push=True, many_processes=True, transactional=True)
#: Options that may stand in the URL as well, for programs that know nothing but a URL.
_IN_URL = {
    "prefix": str, "schema": str, "pool_size": int, "statement_cache_size": int,
    "connect_timeout": float, "statement_timeout": float, "patience": float,
}  # fmt: skip


class PostgresStore(SqlStore):
    """Jobs in a PostgreSQL database."""

    def __init__(self, driver: AsyncpgDriver, db: PostgresDialect, **parts: Any) -> None:
        self._postgres = driver
        self._listener = Listener(driver, db.channel)
        super().__init__(driver, capabilities=_CAPABILITIES, watch=self._listener, **parts)
        self._announcer = Announcer(self._notify, lambda: Step(self._db, self._draw))
        self._again: Callable[[], PostgresStore] | None = None

    async def close(self) -> None:
        """Send what is pending, and let everything go."""
        await self._announcer.close()
        await super().close()

    def beat_source(self) -> BeatSource:
        """What a heart beats through in a thread and loop of its own: a connection of its own."""
        assert self._again is not None, "set by make_postgresql"
        return BeatSource(self._again())

    # --- the one step: others are told after the commit

    async def _write(self, make: Callable[[Step], Script[T]], *, single: bool = False, repeats: bool = False) -> T:
        self._check_open()
        steps: list[Step] = []

        def script() -> Script[T]:
            steps[:] = [Step(self._db, self._draw)]
            return make(steps[0])

        answer = await self._postgres.run(script, single=single, repeats=repeats)
        step = steps[0]
        if step.news:
            self._tell(step)
            self._announcer.tell(step)
        return answer

    async def _notify(self, step: Step) -> None:
        await self._postgres.run(lambda: notification(step), single=True, repeats=True)


class BeatSource:
    """Beats alone, in a loop of its own; opened by the first."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        await self._store.open()
        return await self._store.heartbeat(beat)

    async def close(self) -> None:
        """Let the connection go."""
        await self._store.close()


def make_postgresql(
    url: str,
    *,
    clock: Clock,
    draw: Draw | None = None,
    auto_migrate: bool = False,
    **options: Any,
) -> PostgresStore:
    """Return the store of a database, not opened yet.

    Options, as keywords or in the URL's query: prefix and schema of the tables; see PostgresOptions for the others. What is
    left of the query is PostgreSQL's own (sslmode, host, …).
    """
    url, found = _split_options(url)
    options = {**found, **options}
    unknown = options.keys() - _IN_URL.keys()
    if unknown:
        raise ConfigError(
            f"postgresql: store: unknown option {', '.join(sorted(unknown))}. Expected some of {', '.join(_IN_URL)}, "
            "auto_migrate."
        )
    prefix, schema = check_prefix(options.pop("prefix", PREFIX)), options.pop("schema", "")

    def make(more: dict[str, Any]) -> PostgresStore:
        db = PostgresDialect(prefix, schema, None if type(clock) is SystemClock else clock)
        driver = AsyncpgDriver(url, db, PostgresOptions(**{**options, **more}))
        store = PostgresStore(driver, db, auto_migrate=auto_migrate and not more, clock=clock, draw=draw)
        store._again = lambda: make({"pool_size": 1})
        return store

    return make({})


def _split_options(url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL as PostgreSQL knows it, and the options of ours that stood in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"store URL: expected postgresql://user:password@host:port/database: {error}.") from error
    del port
    found: dict[str, Any] = {}
    others = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _IN_URL:
            others.append((name, value))
            continue
        try:
            found[name] = _IN_URL[name](value)
        except ValueError as error:
            raise ConfigError(f"store URL: {name}: expected a number, found {value!r}.") from error
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(others), "")), found
