"""Turns a URL into a store. The one room that knows the adapters; each is imported when it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec

from holdfast.errors import ConfigError, MissingExtra
from holdfast.masking import without_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import ModuleType

    from holdfast.audit import AuditLog
    from holdfast.clock import Clock
    from holdfast.feed import Feed, Sink
    from holdfast.history import JobRepository, WorkerRepository
    from holdfast.router import StatefulExecutor
    from holdfast.store import Store
    from holdfast.stores.offline import OfflineStore as OfflineStore  # noqa: PLC0414 - for those who may not name an adapter

_FORMS: Final = (
    "memory: (in this process, for tests), journal:./data, sqlite:///queue.db, postgresql://host/name, mysql://host/name, "
    "http://hub:7420"
)
#: Of a process on a journal: owner of its folder, client of the node that owns it, or whichever it finds.
ROLES: Final = ("auto", "owner", "client")


class Adapter(msgspec.Struct, frozen=True):
    """Where the store of a scheme is made: `function(rest_or_url, clock=…, **options)` of `module`.

    needs_url: it takes the whole URL, not what follows the scheme. driver: the package of its `extra`.
    """

    module: str
    function: str
    needs_url: bool = False
    extra: str = ""


_SQL: Final = {
    "sqlite": Adapter("holdfast.stores.sql", "open_sqlite", needs_url=True, extra="sqlite"),
    "postgresql": Adapter("holdfast.stores.sql.postgresql", "make_postgresql", needs_url=True, extra="postgres"),
    "mysql": Adapter("holdfast.stores.sql.mysql", "make_mysql", needs_url=True, extra="mysql"),
}
_REMOTE: Final = Adapter("holdfast.stores.remote", "open_remote", needs_url=True, extra="node")
#: They stand above this room; so they are named, not imported.
_SHARE: Final = Adapter("holdfast.node.share", "Share", extra="node")
_METRICS: Final = Adapter("holdfast.node.metrics", "metrics_port", extra="node")
ADAPTERS: Final = {
    "memory": Adapter("holdfast.stores.memory", "MemoryStore"),
    "journal": Adapter("holdfast.stores.journal", "open_journal"),
    **_SQL,
    "postgres": _SQL["postgresql"],
    "mariadb": _SQL["mysql"],
    "http": _REMOTE,
    "https": _REMOTE,
    "unix": _REMOTE,
}


def make_store(url: str, *, clock: Clock, **options: Any) -> Store:
    """Return the store of `url`, not opened yet.

    Raises ConfigError for a URL that is none of the accepted forms, and MissingExtra when a driver is not installed.
    """
    scheme, rest = _split(url)
    adapter = ADAPTERS[scheme]
    make = getattr(_import(f"a {scheme}: store", adapter), adapter.function)
    store: Store
    if scheme == "memory":
        _refuse_rest(url, rest, options)
        store = make(clock=clock)
    elif scheme == "journal":
        store = _make_journal(rest, make, clock, options)
    else:
        store = make(url if adapter.needs_url else rest, clock=clock, **options)
    return store


def _make_journal(folder: str, make: Callable[..., Store], clock: Clock, options: dict[str, Any]) -> Store:
    """Return a journal; unless `role` is "owner", a node that serves the folder is used instead if there is one."""
    if not folder:
        raise ConfigError("store URL: expected a folder behind journal:, found none. Write journal:./data.")
    if "?" in folder:
        raise ConfigError(
            f"store URL: expected a folder behind journal:, found {folder!r}. A journal takes its options as keywords: "
            'Holdfast("journal:./data", snapshot_interval=5.0).'
        )
    role = options.pop("role", "auto")
    if role not in ROLES:
        raise ConfigError(f"role: expected one of {', '.join(ROLES)}, found {role!r}.")
    store = make(folder, clock=clock, **options)
    if role == "owner":
        return store
    from holdfast.stores.remote.auto import AutoStore

    return cast("Store", AutoStore(folder, lambda: store, role=role, clock=clock))


class Share(Protocol):
    """A journal that this process owns, served to other processes of the machine."""

    async def start(self) -> None:
        """Return when others are answered. Raises ConfigError when the system refuses the socket."""
        ...

    async def stop(self) -> None:
        """Let the socket go."""
        ...


def make_share(store: Store, folder: Path, **told: Any) -> Share:
    """Return what serves `folder`, which `store` owns, at the socket in it; not started yet. `told`: see node.share.

    Raises MissingExtra when the server is not installed.
    """
    make = getattr(_import("serving a journal to other processes", _SHARE), _SHARE.function)
    made: Share = make(store, folder, **told)
    return made


def make_metrics_port(text: Callable[[], Awaitable[bytes]], **where: Any) -> AbstractAsyncContextManager[str | None]:
    """Return what serves the metrics `text` on a port while its body runs. `where`: see node.metrics.

    Raises MissingExtra when the server is not installed.
    """
    make = getattr(_import("serving metrics", _METRICS), _METRICS.function)
    made: AbstractAsyncContextManager[str | None] = make(text, **where)
    return made


def make_history(store: object) -> tuple[JobRepository | None, WorkerRepository | None]:
    """Return what reads the past of `store`, and its workers; None where a store keeps none in this process."""
    if hasattr(store, "ledger"):
        from holdfast.histories.ledger import LedgerJobs
        from holdfast.histories.ledger_workers import LedgerWorkers

        access = cast("Any", store)
        return LedgerJobs(access), LedgerWorkers(access)
    if hasattr(store, "job_figures"):  # a SQL store: the tables are the history
        from holdfast.histories.sql import SqlJobs, SqlWorkers

        access = cast("Any", store)
        return SqlJobs(access), SqlWorkers(access)
    return None, None


def make_audit(store: object) -> AuditLog | None:
    """Return what reads and writes the audit log of `store`; None where a store keeps none in this process."""
    from holdfast.histories.audit import LedgerAudit, RemoteAudit, SqlAudit

    access = cast("Any", store)
    if hasattr(store, "ask"):  # another process has the log
        return RemoteAudit(access)
    if hasattr(store, "ledger"):
        return LedgerAudit(access)
    return SqlAudit(access) if hasattr(store, "audited") else None


class History(Protocol):
    """A history outside of the store: `jobs` and `workers` read it, an exporter writes `sink`. Made by `open_history`."""

    jobs: JobRepository
    workers: WorkerRepository
    sink: Sink

    async def open(self) -> None:
        """Be ready. Raises StoreUnavailable when it does not answer, ConfigError when it is none."""
        ...

    async def close(self) -> None:
        """Let everything go."""
        ...


_HISTORY_FORMS: Final = (
    "clickhouse://user:password@host:8123/database, clickhouses://host (TLS), chdb:./folder (an engine in this process)"
)
_CLICKHOUSE: Final = "holdfast.histories.clickhouse"
HISTORIES: Final = {
    "clickhouse": Adapter(_CLICKHOUSE, "open_clickhouse", needs_url=True, extra="clickhouse"),
    "clickhouses": Adapter(_CLICKHOUSE, "open_clickhouse", needs_url=True, extra="clickhouse"),
    "chdb": Adapter(_CLICKHOUSE, "open_clickhouse", needs_url=True, extra="clickhouse-embedded"),
}
_DRIVERS: Final = {"clickhouse": "clickhouse_connect", "clickhouses": "clickhouse_connect", "chdb": "chdb"}


def open_history(url: object, *, store: JobRepository, workers: WorkerRepository, now: Callable[[], float]) -> History:
    """Return the history at `url`, not opened yet. store, workers: those that the store itself has. now: the store's clock.

    Raises ConfigError for a URL that is none of the accepted forms, and MissingExtra when a driver is not installed.
    """
    scheme, colon, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    if not colon or scheme not in HISTORIES:
        raise ConfigError(f"history URL: expected one of {_HISTORY_FORMS}; found {masked(url)}.")
    adapter = HISTORIES[scheme]
    if importlib.util.find_spec(_DRIVERS[scheme]) is None:
        raise MissingExtra(f"history {scheme}:", adapter.extra)
    made: History = getattr(_import(f"history {scheme}", adapter), adapter.function)(
        url, store=store, workers=workers, now=now
    )
    return made


def feed_of(store: object) -> Feed | None:
    """Return what an exporter needs of a store; None where it has no such thing in this process."""
    return cast("Feed", store) if hasattr(store, "start_export") else None


def make_offline(folder: str, *, clock: Clock) -> OfflineStore:
    """Return the last state of a journal as its files tell it, for reads alone, not read yet."""
    from holdfast.stores.offline import open_offline

    return open_offline(folder, clock=clock)


def lives_in_process(url: str) -> bool:
    """Tell whether the store of `url` is in the memory of this process, so that it must be kept to be found again."""
    return _split(url)[0] == "memory"


def _split(url: object) -> tuple[str, str]:
    scheme, colon, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
    # SQLAlchemy's way of naming a driver (postgresql+asyncpg) is understood; ours is chosen all the same.
    scheme = scheme.partition("+")[0].lower()
    if not colon or scheme not in ADAPTERS:
        raise ConfigError(f"store URL: expected one of {_FORMS}; found {masked(url)}.")
    return scheme, rest


def _refuse_rest(url: str, rest: str, options: dict[str, Any]) -> None:
    if rest.strip("/") or options:
        extra = f"options {', '.join(options)}" if options else masked(url)
        raise ConfigError(
            f"store URL: expected memory: with nothing behind it, found {extra}. For a folder use journal:."
        )


def _import(what: str, adapter: Adapter) -> ModuleType:
    if importlib.util.find_spec(adapter.module) is None:
        raise ConfigError(f"store URL: {what} is not part of this release yet. Use memory: or journal:./data.")
    try:
        return importlib.import_module(adapter.module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("holdfast"):
            raise
        raise MissingExtra(what, adapter.extra or what) from error


# --- routers -------------------------------------------------------------------------------------------------------

_ROUTER_FORMS: Final = "memory: (for one process), redis://host:6379/0, rediss://host (TLS), redis+cluster://host:6379, unix:///path/to/redis.sock"
_REDIS: Final = Adapter("holdfast.routers.redis", "open_redis", needs_url=True, extra="redis")
ROUTERS: Final = {
    "memory": Adapter("holdfast.routers.memory", "MemoryExecutor"),
    **dict.fromkeys(("redis", "rediss", "redis+cluster", "unix"), _REDIS),
}


def make_router(url: str, *, clock: Clock, **options: Any) -> StatefulExecutor:
    """Return the executor of a router's `url`, not opened yet.

    Raises ConfigError for a URL that is none of the accepted forms, and MissingExtra when a driver is not installed.
    """
    scheme, rest = _router_scheme(url)
    adapter = ROUTERS[scheme]
    make = getattr(_import(f"router {scheme}", adapter), adapter.function)
    router: StatefulExecutor
    if scheme == "memory":
        _refuse_rest(url, rest, options)
        router = make(clock=clock)
    else:
        router = make(url, shown=masked(url), **options)
    return router


def router_lives_in_process(url: str) -> bool:
    """Tell whether the links of a router's `url` are in the memory of this process."""
    return _router_scheme(url)[0] == "memory"


def _router_scheme(url: object) -> tuple[str, str]:
    scheme, colon, rest = url.partition(":") if isinstance(url, str) else ("", "", "")
    if not colon or scheme.lower() not in ROUTERS:
        raise ConfigError(f"router URL: expected one of {_ROUTER_FORMS}; found {masked(url)}.")
    return scheme.lower(), rest


def masked(url: object) -> str:
    """Return a URL for a message: with its password hidden."""
    return f"{without_secrets(str(url))!r:.200}"
