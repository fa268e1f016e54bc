"""The history over HTTP: the same contract, and an outage in the middle of an export."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.clock import SystemClock  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.connect import open_history  # noqa: E402
from holdfast.errors import StoreUnavailable  # noqa: E402
from holdfast.exporter import Exporter, ExportOptions  # noqa: E402
from holdfast.feed import Changes  # noqa: E402
from holdfast.histories.clickhouse import embedded  # noqa: E402
from holdfast.history import AttemptFilter, AttemptRecord, JobFilter, Page, StatisticsFilter, StatusUpdate  # noqa: E402
from holdfast.job.commands import Delete, Failed, Retry  # noqa: E402
from holdfast.job.model import Attempt, WorkerConfig  # noqa: E402
from holdfast.job.retry import RetryPolicy  # noqa: E402
from holdfast.job.state import End, State  # noqa: E402
from holdfast.testing.contract.harness import ERROR  # noqa: E402
from holdfast.testing.contract_history import JobRepositoryContract, WorkerRepositoryContract  # noqa: E402
from tests.clickhouse.harness import SERVER, ClickhouseHarness, Engine, fresh_database  # noqa: E402
from tests.contract.adapters import MemoryHarness  # noqa: E402
from tests.features import feature  # noqa: E402
from tests.support.clickhouse_http import FakeClickHouseHttp  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

QUICK = ExportOptions(poll=0.01, retry_first=0.01, retry_most=0.05)


class HttpHarness(ClickhouseHarness):
    """A store, and its history on a FakeClickHouseHttp, or on the server that the environment names."""

    def __init__(self) -> None:
        self.database = fresh_database()
        self.front = FakeClickHouseHttp(embedded.acquire(Engine.start()))
        self.http = MemoryHarness()

    async def open(self) -> None:
        await self.front.start()
        place = SERVER or f"clickhouse://127.0.0.1:{self.front.port}"
        super().__init__(self.http, f"{place}/{self.database}?keep=forever&timeout=10s", self.database)
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self.front.stop()
        embedded.release()


@pytest.fixture
def history_factory() -> Callable[[], HttpHarness]:
    return HttpHarness


class TestHttp(JobRepositoryContract, WorkerRepositoryContract):
    pass


@asynccontextmanager
async def opened() -> AsyncIterator[HttpHarness]:
    """A harness that is closed whatever comes of the test: the embedded engine takes the process with it otherwise."""
    h = HttpHarness()
    await h.open()
    try:
        yield h
    finally:
        await h.close()


async def settled(h: HttpHarness, count: int) -> list[str]:
    ids = await h.store.make(count)
    for claim in await h.store.claim(count):
        await h.store.settle(claim, duration=1.0)
    return ids


async def until_exported(h: HttpHarness) -> None:
    async with asyncio.timeout(60.0):
        while (await h.feed.export_state()).waiting:  # noqa: ASYNC110 - the exporter of another task tells nobody
            await asyncio.sleep(0.01)


async def counted(h: HttpHarness) -> tuple[int, int, int, int]:
    """Jobs and attempts as rows, and in the figures."""
    [[jobs]] = await h.rows("SELECT count() FROM {job} FINAL")
    [[attempts]] = await h.rows("SELECT count() FROM {attempt} FINAL")
    [[hours]] = await h.rows("SELECT sum(n) FROM {hour} FINAL")
    return int(jobs), int(attempts), int(hours), await h.jobs.count(JobFilter(states=(State.SUCCEEDED,)))


@feature("H17")
@pytest.mark.skipif(bool(SERVER), reason="a server that others may use is not stopped")
async def test_an_outage_in_the_middle_of_an_export_loses_nothing_and_counts_nothing_twice() -> None:
    async with opened() as h:
        exporter = Exporter(h.feed, h.history.sink, SystemClock(), QUICK)
        exporter._limit = 7
        stopping = asyncio.Event()
        made = await settled(h, 40)
        async with asyncio.TaskGroup() as group:
            group.create_task(exporter.run(stopping))
            # The rows of attempts come in, and the answer is lost; then those of jobs.
            for table in ("attempt", "job", "minute"):
                h.front.lose_next = lambda said, table=table: f"_{table}" in said and "INSERT" in said
                made += await settled(h, 20)
                await until_exported(h)
                assert h.front.lose_next is None
            await h.front.stop()
            failures = exporter.figures.failures
            made += await settled(h, 100)
            async with asyncio.timeout(30.0):
                # The first may be that of an answer lost before; the others are of rows that could not be sent.
                while exporter.figures.failures < failures + 3:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            with pytest.raises(StoreUnavailable, match="ClickHouse at"):
                await h.jobs.count(JobFilter(states=(State.FAILED,)))
            assert (await h.jobs.get(made[-1])).state is State.SUCCEEDED  # the store is asked first
            assert (await exporter.look()).waiting > 0
            await h.front.start()
            await until_exported(h)
            stopping.set()
        assert await counted(h) == (len(made),) * 4
        assert exporter.figures.failures > 0
        assert exporter.figures.problem == ""


async def test_a_batch_that_is_sent_again_and_again_is_there_once() -> None:
    async with opened() as h:
        await settled(h, 5)
        changes: Changes = await h.feed.changes(10)
        for _ in range(3):
            await h.history.sink.write(changes.items)
        await h.feed.exported(changes.receipt)
        assert await counted(h) == (5, 5, 5, 5)


@feature("H8")
async def test_a_failure_that_a_person_retried_stays_one_in_the_figures_of_long_ranges() -> None:
    async with opened() as h:
        job = await h.store.add(retry=RetryPolicy(max_attempts=1))
        await h.store.settle(await h.store.claim_one(), Failed(ERROR))
        await h.sync()
        await h.store.done(Retry(), job.id)
        await h.sync()
        await h.store.settle(await h.store.claim_one())
        await h.sync()
        [found] = await h.jobs.statistics(StatisticsFilter(days=30))
        assert (found.total, found.succeeded, found.gave_up) == (2, 1, 1)


@feature("H11", "H12", "H13")
@pytest.mark.skipif(bool(SERVER), reason="a server that others may use is not stopped")
async def test_workers_are_configured_and_shown_while_clickhouse_is_away_and_known_to_it_afterwards() -> None:
    async with opened() as h:
        await h.workers.upsert(WorkerConfig(name="before"))
        await h.front.stop()
        await h.workers.upsert(WorkerConfig(name="during", delay=3.0))
        assert [one.name for one in await h.workers.list()] == ["before", "during"]
        await h.front.start()
        assert [one.name for one in await h.workers.list()] == ["before", "during"]
        [[body]] = await h.rows("SELECT body FROM {worker} FINAL WHERE name = 'during'")
        assert '"delay":3.0' in body


@feature("H12", "H13", "H14")
async def test_workers_of_a_store_that_was_set_up_anew_are_known_until_they_are_deleted() -> None:
    async with opened() as h:
        await h.workers.upsert(WorkerConfig(name="old", last_heartbeat_at=5.0))
        await h.store.store.delete_worker("old")
        assert [one.name for one in await h.workers.list_offline(60.0)] == ["old"]
        assert await h.workers.update_heartbeat("old", h.now)
        assert await h.workers.list_offline(60.0) == []
        await h.workers.delete("old")
        assert await h.workers.list() == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://host/db", "clickhouse://"),
        ("clickhouse://host/db?nonsense=1", "nonsense"),
        ("clickhouse://host/Bad-Name", "database"),
        ("clickhouse://host/db?keep=soon", "keep"),
        ("chdb:", "folder"),
        (7, "clickhouse://"),
    ],
)
def test_a_url_that_is_no_history_is_refused_and_its_fault_named(url: Any, said: str) -> None:
    from holdfast.errors import HoldfastError

    with pytest.raises(HoldfastError, match=said):
        open_history(url, store=None, workers=None, now=lambda: 0.0)  # type: ignore[arg-type]


@pytest.mark.skipif(bool(SERVER), reason="a server that others may use is not disturbed")
@pytest.mark.parametrize("table", ["attempt", "minute", "hour", "day", "job", "block"])
async def test_a_purge_and_a_correction_that_are_cut_anywhere_are_done_and_counted_once(table: str) -> None:
    """Each insert of a batch is done and its answer lost, so that all of it is done again."""
    async with opened() as h:
        exporter = Exporter(h.feed, h.history.sink, SystemClock(), QUICK)
        [gone, *stay] = await settled(h, 3)
        await h.record("x", state=State.RUNNING)
        await h.jobs.update_status([StatusUpdate(id="x", state=State.FAILED, attempt=1, worker="w")])
        await exporter.catch_up()
        h.store.advance(3_600.0)
        await h.store.done(Delete(hard=True), gone)
        report = Attempt(1, 0, "i", "w", started_at=h.now - 60.0, ended_at=h.now, end=End.FAILED)
        await h.jobs.insert_attempt([AttemptRecord("x", report)])
        front: Any = h.front
        front.lose_next = lambda said: f"_{table} " in said and "INSERT" in said
        front.lose_times = 2 if table in ("attempt", "job") else 1
        # The driver may have sent it again by itself.
        with suppress(StoreUnavailable):
            await exporter.step()
        await exporter.catch_up()
        assert front.lose_next is None
        found = await h.jobs.find_attempts(AttemptFilter(), Page(limit=50))
        assert sorted(one.job for one in found.items) == sorted([*stay, "x"])
        for span in ("minute", "hour", "day"):
            [[count]] = await h.rows(f"SELECT sum(n) FROM {{{span}}} FINAL")
            assert (span, int(count)) == (span, 3)
        assert await h.jobs.count(JobFilter(states=(State.SUCCEEDED,))) == 2
        assert await h.jobs.count(JobFilter(states=(State.FAILED,))) == 1


@pytest.mark.skipif(bool(SERVER), reason="a server that others may use is not disturbed")
async def test_a_purge_whose_rows_came_in_and_whose_answer_was_lost_is_counted() -> None:
    async with opened() as h:
        [gone, _] = await settled(h, 2)
        await h.sync()
        await h.store.done(Delete(hard=True), gone)
        front: Any = h.front
        front.lose_next, front.lose_times = (lambda said: "_job " in said and "INSERT" in said), 2
        with suppress(StoreUnavailable):
            await h.exporter.step()
        await h.sync()
        assert front.lose_next is None
        assert await h.jobs.count(JobFilter(states=(State.SUCCEEDED,))) == 1
