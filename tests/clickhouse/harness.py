"""Histories in ClickHouse, for tests: each on a database of its own, in one engine for the process."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from holdfast.clock import SystemClock
from holdfast.connect import feed_of, make_history, open_history
from holdfast.exporter import Exporter
from holdfast.histories.clickhouse import embedded
from holdfast.histories.clickhouse.jobs import DAYS_MOST
from holdfast.testing.contract_history import HistoryHarness

if TYPE_CHECKING:
    from holdfast.feed import Feed
    from holdfast.testing.contract.harness import StoreHarness

#: A real server, when there is one: clickhouse://user:password@host:8123
SERVER = os.environ.get("HOLDFAST_TEST_CLICKHOUSE_URL", "")
_numbers = itertools.count(1)


class Engine:
    """The folder of this process's engine. It is started once, and ends with the process."""

    folder = ""

    @classmethod
    def start(cls) -> str:
        if not cls.folder:
            cls.folder = tempfile.mkdtemp(prefix="holdfast-chdb-")
            embedded.acquire(cls.folder)
            atexit.register(shutil.rmtree, cls.folder, ignore_errors=True)
        return cls.folder


def fresh_database() -> str:
    return f"t{os.getpid()}_{next(_numbers)}"


class ClickhouseHarness(HistoryHarness):
    """A store, its history in ClickHouse, and the exporter between them, which goes when the test says so."""

    days_most = DAYS_MOST

    def __init__(self, store: StoreHarness, url: str, database: str) -> None:
        jobs, workers = make_history(store.store)
        assert jobs is not None
        assert workers is not None
        self.history: Any = open_history(url, store=jobs, workers=workers, now=store.store.now)
        self.database = database
        feed = feed_of(store.store)
        assert feed is not None
        self.feed: Feed = feed
        self.exporter = Exporter(self.feed, self.history.sink, SystemClock())
        super().__init__(store, self.history.jobs, self.history.workers)

    async def open(self) -> None:
        await super().open()
        await self.history.open()
        await self.feed.start_export()

    async def close(self) -> None:
        await self.history.client.execute(f"DROP DATABASE IF EXISTS `{self.database}`")
        await self.history.close()
        await super().close()

    async def sync(self) -> None:
        await self.exporter.catch_up()

    async def rows(self, text: str, **params: Any) -> list[list[Any]]:
        """What ClickHouse itself says."""
        found: list[list[Any]] = await self.history.client.query(self.history.tables.named(text), **params)
        return found


def embedded_history(store: StoreHarness, **options: str) -> ClickhouseHarness:
    database = fresh_database()
    given = "&".join(f"{name}={value}" for name, value in {"keep": "forever", "database": database, **options}.items())
    return ClickhouseHarness(store, f"chdb:{Engine.start()}?{given}", database)
