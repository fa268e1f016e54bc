"""The parts of a store on SQLite, put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from holdfast.errors import ConfigError
from holdfast.store import Capabilities
from holdfast.stores.sql.dialects.sqlite import SqliteDialect
from holdfast.stores.sql.drivers.sqlite import SqliteDriver
from holdfast.stores.sql.schema import PREFIX, check_prefix
from holdfast.stores.sql.store import SqlStore
from holdfast.stores.sql.wake import Polling

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.job.draw import Draw

#: Seconds between two looks at what other processes did, while somebody waits.
POLL: Final = 0.02


class SqliteStore(SqlStore):
    """Jobs in a SQLite file, for any number of processes of one machine."""

    def __init__(self, driver: SqliteDriver, **parts: Any) -> None:
        super().__init__(driver, **parts)
        self._file = driver

    async def open(self) -> None:
        """Open the file, and check its tables."""
        if self._open:
            return
        await super().open()
        try:
            await self._file.keep_log()
        except BaseException:
            await self.close()
            raise


def make_sqlite(
    url: str,
    *,
    clock: Clock,
    draw: Draw | None = None,
    prefix: str = PREFIX,
    auto_migrate: bool = True,
    busy_timeout: float = 30.0,
    statistics: bool = True,
) -> SqliteStore:
    """Return the store of a file, not opened yet. statistics: whether what ends is counted for statistics and series."""
    db = SqliteDialect(check_prefix(prefix), clock)
    db.rollup.enabled = statistics
    driver = SqliteDriver(path_of(url), db, clock, busy_timeout=busy_timeout)
    capabilities = Capabilities(
        durable=True, push=True, many_processes=True, transactional=True, one_writer=True, sticky=True
    )
    watch = Polling(driver.data_version, POLL)
    return SqliteStore(
        driver, watch=watch, capabilities=capabilities, auto_migrate=auto_migrate, clock=clock, draw=draw
    )


def path_of(url: str) -> str:
    """Return the file of a URL. Raises ConfigError for one without a path, or with more than one."""
    rest = url.partition(":")[2]
    path = rest[3:] if rest.startswith("///") else ""
    if not path or path == ":memory:":
        raise ConfigError(
            f"store URL: expected sqlite:/// and the path of a file, found {url!r}. Write sqlite:///queue.db, or "
            "sqlite:////var/lib/queue.db for an absolute path. For jobs in memory alone use memory:."
        )
    if "?" in path:
        raise ConfigError(
            f"store URL: expected sqlite:/// and the path of a file, found {url!r}. Options are keywords: "
            'Holdfast("sqlite:///queue.db", busy_timeout=5.0).'
        )
    path = os.path.abspath(unquote(path))
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise ConfigError(
            f"store URL: expected a file in a folder that is there, but there is no folder {folder}. Make it."
        )
    return path
