"""Task tables beside the queues of a store: one list for status, metrics and history.

A store and a repository are passed on as they are; only what counts queues is added to. A table that can not be read is
left out and logged, because the queues must be seen all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from holdfast.errors import HoldfastError
from holdfast.history import QueueStats
from holdfast.job.commands import Stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.history import JobRepository
    from holdfast.store import Store
    from holdfast.table.table import TaskTable

logger: Final = logging.getLogger("holdfast.table")


class _StoreBeside:
    def __init__(self, store: Store, tables: Sequence[TaskTable[Any]]) -> None:
        self._store, self._tables = store, tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def stats(self) -> Stats:
        """Counts of queues and tables."""
        whole = await self._store.stats()
        for found in await _read(self._tables):
            whole = msgspec.structs.replace(
                whole,
                queues={**whole.queues, **found.queues},
                oldest_ready_at={**whole.oldest_ready_at, **found.oldest_ready_at},
            )
        return whole


class _HistoryBeside:
    def __init__(self, history: JobRepository, tables: Sequence[TaskTable[Any]]) -> None:
        self._history, self._tables = history, tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._history, name)

    async def queue_stats(self) -> Sequence[QueueStats]:
        """All queues and tables, by name."""
        found = {one.name: one for one in await self._history.queue_stats()}
        for stats in await _read(self._tables):
            for name, states in stats.queues.items():
                oldest = stats.oldest_ready_at.get(name)
                found[name] = QueueStats(name=name, states=states, records={}, oldest_ready_at=oldest)
        return [found[name] for name in sorted(found)]


def store_beside(store: Store, tables: Sequence[TaskTable[Any]]) -> Store:
    """Return `store` with the tables in its statistics, and so in metrics and `holdfast status`."""
    return cast("Store", _StoreBeside(store, tables)) if tables else store


def history_beside(history: JobRepository, tables: Sequence[TaskTable[Any]]) -> JobRepository:
    """Return `history` with the tables in its list of queues."""
    return cast("JobRepository", _HistoryBeside(history, tables)) if tables else history


class _Alone:
    def __init__(self, tables: Sequence[TaskTable[Any]]) -> None:
        self._tables = tables

    async def stats(self) -> Stats:
        """Counts of the tables."""
        found = await _read(self._tables)
        return Stats(
            queues={name: states for one in found for name, states in one.queues.items()},
            oldest_ready_at={name: at for one in found for name, at in one.oldest_ready_at.items()},
        )

    async def instances(self) -> list[Any]:
        """None: the rows themselves say who runs them."""
        return []

    def now(self) -> float:
        """The time here."""
        return time.time()


def tables_alone(*tables: TaskTable[Any]) -> Store:
    """Return tables as the store that `Metrics.scrape` reads: for a process that has no store beside them."""
    return cast("Store", _Alone(tables))


async def _read(tables: Sequence[TaskTable[Any]]) -> list[Stats]:
    answers = await asyncio.gather(*(table.beside() for table in tables), return_exceptions=True)
    found: list[Stats] = []
    for table, answer in zip(tables, answers, strict=True):
        if isinstance(answer, Stats):
            found.append(answer)
        elif isinstance(answer, HoldfastError):
            logger.warning("%r is left out of the statistics: %s", table, answer)
        else:
            raise answer
    return found
