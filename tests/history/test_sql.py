"""The history of SQL stores keeps the contract."""

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.histories.sql import SqlJobs, SqlWorkers  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.history import AttemptFilter, JobFilter, Page  # noqa: E402
from holdfast.job.commands import ChangeQueue  # noqa: E402
from holdfast.job.state import End  # noqa: E402
from holdfast.stores.sql import past  # noqa: E402
from holdfast.testing.contract_history import (  # noqa: E402
    HistoryHarness,
    JobRepositoryContract,
    WorkerRepositoryContract,
)
from tests.contract.adapters import ADAPTERS  # noqa: E402
from tests.sql.mysql.harness import MariadbHarness  # noqa: E402
from tests.sql.sqlite.harness import SqliteHarness  # noqa: E402


class SqlHarness(HistoryHarness):
    """A store on SQL, and the history of it."""

    def __init__(self, store: SqliteHarness | MariadbHarness) -> None:
        super().__init__(store, SqlJobs(store.store), SqlWorkers(store.store))

    async def close(self) -> None:
        assert self.store.faults() == []
        await super().close()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def history_factory(request: pytest.FixtureRequest) -> Callable[[], HistoryHarness]:
    make = ADAPTERS[request.param]
    return lambda: SqlHarness(make())  # type: ignore[arg-type]  # all three have a SqlStore


class TestSql(JobRepositoryContract, WorkerRepositoryContract):
    pass


async def test_figures_and_counts_lose_what_retention_purges(history_factory: Callable[[], HistoryHarness]) -> None:
    h = history_factory()
    await h.open()
    for end in (End.SUCCEEDED, End.CANCELED):
        await h.record(f"there-{end}", queue="default")
        await h.report(1, End.SUCCEEDED, f"there-{end}", duration=5.0, ended_at=901.0)
        await h.report(2, end, f"there-{end}", duration=7.0, ended_at=902.0)
    await h.store.make(3)
    for duration in (0.1, 0.2, 0.3):
        await h.store.settle(await h.store.claim_one(), duration=duration)
    stats = await h.jobs.worker_stats("w")
    assert (stats.succeeded, stats.canceled, stats.avg_duration) == (4, 1, (5.0 + 7.0 + 5.0 + 0.6) / 6)
    keep = ChangeQueue(name="default", keep_succeeded=0.0, keep_failed=0.0, create=True)
    await h.store.store.change_queue(keep)
    h.store.advance(1.0)
    while (await h.store.store.rescue()).more:
        pass
    stats = await h.jobs.worker_stats("w")
    assert (stats.total, stats.avg_duration, await h.jobs.count(JobFilter(worker="w"))) == (0, None, 0)
    await h.close()


async def test_figures_of_more_jobs_than_are_counted_are_marked(history_factory: Callable[[], HistoryHarness]) -> None:
    h = history_factory()
    await h.open()
    h.store.count_exactly(10)
    await h.store.add_many(150)
    [queue] = await h.jobs.queue_stats()
    stats = await h.jobs.worker_stats()
    assert (queue.estimated, stats.estimated) == (("queued",), True)
    assert 75 <= queue.states["queued"] == stats.pending <= 300
    assert (await h.jobs.count(JobFilter())).estimated
    h.store.count_exactly(1_000)
    [queue] = await h.jobs.queue_stats()
    stats = await h.jobs.worker_stats()
    assert (queue.estimated, queue.states["queued"], stats.estimated, stats.pending) == ((), 150, False, 150)
    await h.close()


async def test_a_search_of_attempts_passes_over_so_many_rows_a_page_and_goes_on(
    history_factory: Callable[[], HistoryHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "LOOKED", 4)
    h = history_factory()
    await h.open()
    await h.store.make(2)
    for claim in await h.store.claim(2):
        await h.store.settle(claim)
    await h.store.add_many(30)  # never tried
    seen, pages, page = list[str](), 0, Page(scan=1, limit=1)
    while True:
        found = await h.jobs.find_attempts(AttemptFilter(), page)
        seen, pages = [*seen, *(one.job for one in found.items)], pages + 1
        if not found.cursor:
            break
        page = Page(scan=1, limit=1, cursor=found.cursor)
    assert (len(seen), len(set(seen)), 4 <= pages <= 6) == (2, 2, True)
    await h.close()
