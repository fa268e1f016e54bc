"""A real ClickHouse engine in this process (chdb), on a folder of its own.

One process per folder, one folder per process, and no fork after it was opened: the engine has threads. Its own threads are
few, and it is asked from one thread of ours, so that the loop never waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.errors import ConfigError, StoreClosed, StoreError
from holdfast.histories.clickhouse.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\x00": "\\0"})
#: The engine of this process: folder, connection, users.
_engine: dict[str, Any] = {}
_guard: Final = threading.Lock()


def acquire(folder: str, threads: int = 2) -> Any:
    """Return the connection to the engine on `folder`; its users share it. Raises ConfigError for a second folder."""
    import chdb

    connect: Any = chdb.connect
    place = str(Path(folder).resolve())
    with _guard:
        if _engine and _engine["folder"] != place:
            raise ConfigError(
                f"chdb: expected one data folder per process, found {place} while {_engine['folder']} is open. Close that "
                "history first, or use a ClickHouse server."
            )
        if not _engine:
            Path(place).mkdir(parents=True, exist_ok=True, mode=0o700)
            _engine.update(folder=place, connection=connect(f"{place}?max_threads={threads}"), users=0)
        _engine["users"] += 1
        return _engine["connection"]


def release() -> None:
    """Give the engine back; the last user closes it."""
    with _guard:
        _engine["users"] -= 1
        if not _engine["users"]:
            _engine["connection"].close()
            _engine.clear()


class EmbeddedClient(Client):
    """The Client over chdb."""

    def __init__(self, folder: str, *, database: str = "holdfast", threads: int = 2) -> None:
        """folder: where the engine keeps its data; made when missing. threads: of a query."""
        self._folder, self._database, self._threads = folder, database, threads
        self._connection: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self.shown = f"chdb in {folder}"

    async def open(self) -> None:
        """Start the engine, unless this process has it."""
        if self._pool is not None:
            return
        self._pool = ThreadPoolExecutor(1, "holdfast-chdb")
        try:
            self._connection = await self._run(lambda: acquire(self._folder, self._threads))
        except BaseException:
            self._stop()
            raise
        await self._ask(f"CREATE DATABASE IF NOT EXISTS `{self._database}`", {})

    async def close(self) -> None:
        """Give the engine back."""
        if self._pool is None:
            return
        if self._connection is not None:
            self._connection = None
            await self._run(release)
        self._stop()

    def _stop(self) -> None:
        assert self._pool is not None, "it was opened"
        self._pool.shutdown()
        self._pool = None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            raise StoreClosed("the history is not open: await its open() first.")
        # A query can not be stopped; whoever is cancelled leaves, and the next one waits until it is done.
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _ask(self, sql: str, params: dict[str, str | int | float]) -> bytes:
        given = {name: _parameter(value) for name, value in params.items()}
        return await self._run(lambda: self._query(sql, given))

    async def _put(self, table: str, columns: Sequence[str], lines: bytes) -> None:
        text = f"INSERT INTO {table} ({', '.join(columns)}) FORMAT JSONCompactEachRow\n{lines.decode()}"
        await self._run(lambda: self._query(text, {}))

    def _query(self, sql: str, params: dict[str, str]) -> bytes:
        import chdb

        try:
            answer = self._connection.query(sql, "JSONCompactEachRow", params=params or None)
        except (chdb.ChdbError, RuntimeError) as error:  # it raises another class than it shows
            raise StoreError(f"{self.shown} refused: {str(error)[:2_000]}") from error
        found: bytes = answer.bytes()
        return found


def _parameter(value: str | float) -> str:
    """A parameter as the engine reads it: escaped, as in a line of tab separated values."""
    return value.translate(_ESCAPES) if isinstance(value, str) else repr(value)
