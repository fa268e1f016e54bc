"""What the suites of the history ports hold in their hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from holdfast.history import AttemptRecord, JobFilter, JobRepository, Page, WorkerRepository
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End
from holdfast.statistics import DAYS_KEPT
from holdfast.testing.contract.harness import StoreHarness

feature = pytest.mark.feature


class HistoryHarness:
    """A store, and a history of it. An adapter that is fed by an exporter overrides `sync`.

    days_most: how many days back its statistics reach; one that keeps more than every history must says so.
    """

    days_most = DAYS_KEPT

    def __init__(self, store: StoreHarness, jobs: JobRepository, workers: WorkerRepository) -> None:
        self.store, self.jobs, self.workers = store, jobs, workers

    async def open(self) -> None:
        """Make all of it ready and empty."""
        await self.store.open()

    async def close(self) -> None:
        """Let everything go."""
        await self.store.close()

    async def sync(self) -> None:
        """Return when the history shows all that the store knows."""

    @property
    def now(self) -> float:
        """The time that the test has set."""
        return self.store.clock.now()

    async def record(self, job_id: str = "x", **fields: Any) -> Job:
        """Upsert a record; return it as it is read back."""
        await self.jobs.upsert([Job(**{"seq": 0, "id": job_id, "task": "t", **fields})])
        await self.sync()
        return await self.jobs.get(job_id)

    async def report(self, number: int, end: End | None = None, job_id: str = "x", **fields: Any) -> Job:
        """Insert an attempt; return its job."""
        await self.jobs.insert_attempt([AttemptRecord(job_id, attempt(number, end, **fields))])
        await self.sync()
        return await self.jobs.get(job_id)

    async def ids(self, *, limit: int = 200, **fields: Any) -> list[str]:
        """List jobs."""
        return [job.id for job in (await self.jobs.list(JobFilter(**fields), Page(limit=limit))).items]


def attempt(number: int, end: End | None = None, **fields: Any) -> Attempt:
    """Return an attempt of worker "w" that began at 900 s."""
    fields = {"instance": "", "worker": "w", "started_at": 900.0, **fields}
    return Attempt(number, 0, end=end, **fields)


@pytest.mark.asyncio
class HistorySuite:
    """Tests of a history. The adapter supplies the fixture `history_factory`."""

    @pytest_asyncio.fixture
    async def h(self, history_factory: Callable[[], HistoryHarness]) -> AsyncIterator[HistoryHarness]:
        """Open a fresh history."""
        harness = history_factory()
        await harness.open()
        yield harness
        await harness.close()
