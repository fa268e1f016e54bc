"""A ClickHouse history from its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.durations import seconds
from holdfast.errors import ConfigError
from holdfast.histories.clickhouse.jobs import ClickhouseJobs
from holdfast.histories.clickhouse.migrate import Tables, checked, migrate
from holdfast.histories.clickhouse.sink import ClickhouseSink
from holdfast.histories.clickhouse.workers import ClickhouseWorkers

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.histories.clickhouse.client import Client
    from holdfast.history import JobRepository, WorkerRepository

_OPTIONS: Final = frozenset({"prefix", "keep", "database", "timeout"})
_DAY: Final = 86_400.0


class ClickhouseHistory:
    """A history in ClickHouse: `jobs` and `workers` to read it, `sink` to write it."""

    def __init__(
        self, client: Client, tables: Tables, store: JobRepository, workers: WorkerRepository, now: Callable[[], float]
    ) -> None:
        self.client, self.tables = client, tables
        self.jobs = ClickhouseJobs(client, tables, store, now)
        self.workers = ClickhouseWorkers(client, tables, workers, now)
        self.sink = ClickhouseSink(client, tables)

    async def open(self) -> None:
        """Be ready, and make the tables that are missing. Raises StoreUnavailable, ConfigError; it may be tried again."""
        await self.client.open()
        await migrate(self.client, self.tables)

    async def close(self) -> None:
        """Let everything go."""
        await self.client.close()


def open_clickhouse(
    url: str, *, store: JobRepository, workers: WorkerRepository, now: Callable[[], float], threads: int = 2
) -> ClickhouseHistory:
    """Return the history of a URL, not opened yet. Raises ConfigError for what is none.

    clickhouse://user:password@host:8123/database, clickhouses:// by TLS, chdb:./folder for an engine in this process.
    Behind a question mark: prefix=holdfast_, keep=400d or keep=forever, timeout=30s; for chdb also database=holdfast.
    """
    scheme, _, rest = url.partition(":")
    options = _options(url)
    place, _, _ = rest.partition("?")
    timeout = seconds(options.get("timeout", "30s"), "timeout")
    client: Client
    if scheme == "chdb":
        if not place:
            raise ConfigError("history URL: expected a folder behind chdb:, found none. Write chdb:./history.")
        from holdfast.histories.clickhouse.embedded import EmbeddedClient

        tables = _tables(options, options.get("database", "holdfast"))
        client = EmbeddedClient(place, database=tables.database, threads=threads)
    else:
        from holdfast.histories.clickhouse.http import HttpClient

        parts = urlsplit(url)
        secure = scheme == "clickhouses"
        tables = _tables(options, parts.path.strip("/") or "holdfast")
        client = HttpClient(
            host=parts.hostname or "localhost",
            port=parts.port or (8443 if secure else 8123),
            database=tables.database,
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=secure,
            timeout=timeout,
        )
    return ClickhouseHistory(client, tables, store, workers, now)


def _options(url: str) -> dict[str, str]:
    options = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigError(
            f"history URL: expected the options {', '.join(sorted(_OPTIONS))}; found {', '.join(unknown)}."
        )
    return options


def _tables(options: dict[str, str], database: str) -> Tables:
    keep = options.get("keep", "400d")
    days = None if keep == "forever" else max(1, round(seconds(keep, "keep") / _DAY))
    return checked(Tables(database, options.get("prefix", "holdfast_"), days))
