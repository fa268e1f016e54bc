"""The history of a ledger keeps the contract, and long reads let others work."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.clock import ManualClock  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.histories import ledger as ledger_history  # noqa: E402
from holdfast.histories.figures import SeriesTally, WorkerTally  # noqa: E402
from holdfast.histories.ledger import SLICE, LedgerJobs, walk, walk_up  # noqa: E402
from holdfast.histories.ledger_workers import LedgerWorkers  # noqa: E402
from holdfast.history import JobFilter, Page  # noqa: E402
from holdfast.job.commands import Delete  # noqa: E402
from holdfast.job.external import EXTERNAL  # noqa: E402
from holdfast.job.figures import OUTCOMES  # noqa: E402
from holdfast.job.ledger import Ledger  # noqa: E402
from holdfast.job.ledger.tally import Reports  # noqa: E402
from holdfast.job.model import Attempt, Job, NewJob, WorkerConfig  # noqa: E402
from holdfast.job.state import End, State  # noqa: E402
from holdfast.stores.memory import MemoryStore  # noqa: E402
from holdfast.testing.contract_history import (  # noqa: E402
    HistoryHarness,
    JobRepositoryContract,
    WorkerRepositoryContract,
)
from tests.contract.adapters import MemoryHarness  # noqa: E402
from tests.features import feature  # noqa: E402
from tests.job.histories import Life  # noqa: E402
from tests.journal.harness import JournalHarness  # noqa: E402


class LedgerHarness(HistoryHarness):
    """A store over a ledger, and the history of it."""

    def __init__(self, store: MemoryHarness | JournalHarness) -> None:
        super().__init__(store, LedgerJobs(store.store), LedgerWorkers(store.store))

    async def close(self) -> None:
        assert self.store.faults() == []
        await super().close()


@pytest.fixture(params=[MemoryHarness, JournalHarness], ids=["memory", "journal"])
def history_factory(request: pytest.FixtureRequest) -> Callable[[], HistoryHarness]:
    make: Callable[[], MemoryHarness | JournalHarness] = request.param
    return lambda: LedgerHarness(make())


class TestLedger(JobRepositoryContract, WorkerRepositoryContract):
    pass


@feature("H17")
async def test_records_and_workers_are_there_after_a_restart() -> None:
    h = JournalHarness()
    await h.open()
    history = LedgerHarness(h)
    await history.record(queue="a")
    await history.report(1, End.FAILED, ended_at=901.0, error="broke")
    await history.workers.upsert(WorkerConfig(name="w"))
    await history.workers.update_heartbeat("w", 7.0)
    job = await history.jobs.get("x")
    await h.restart()
    history = LedgerHarness(h)
    assert await history.jobs.get("x") == job
    assert (await history.workers.get("w")).last_heartbeat_at == 7.0
    assert (await history.jobs.queue_stats())[0].records[State.RETRYING] == 1
    await history.close()


async def filled(count: int) -> MemoryStore:
    store = MemoryStore(clock=ManualClock())
    await store.open()
    while count > 0:
        batch = min(count, 10_000)
        await store.enqueue([NewJob(id=f"j{count - n}", task="t") for n in range(batch)])  # j3, j2, j1
        count -= batch
    return store


async def test_the_loop_gets_a_turn_between_the_slices_of_a_long_read() -> None:
    store = await filled(10 * SLICE)
    history = LedgerJobs(store)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for least, read in (  # a search looks at 10,000 jobs
        (10, lambda: history.count(JobFilter(task="t"))),
        (5, lambda: history.list(JobFilter(text="nothing has this"), Page())),
        (5, lambda: history.list(JobFilter(text="nothing has this"), Page(newest_first=False))),
        (10, history.list_failed),
    ):
        task = asyncio.create_task(others())
        turns = 0
        await read()
        task.cancel()
        assert turns >= least


@given(count=st.integers(0, 3), size=st.integers(1, 5), gone=st.sets(st.integers(1, 3 * 5 + 1)))
async def test_a_walk_shows_each_job_once_in_order_also_around_purged_ones(
    count: int, size: int, gone: set[int]
) -> None:
    store = await filled(count * size)
    for seq in gone:
        store.ledger.table.pop(seq, None)  # as a purge leaves it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.histories.ledger.SLICE", size)
        down = [job.seq async for jobs in walk(store) for job in jobs]
        up = [job.seq async for jobs in walk_up(store, 0) for job in jobs]
    assert up == list(store.ledger.table)
    assert down == up[::-1]


async def test_a_job_that_comes_during_a_walk_is_not_in_it_and_hides_none() -> None:
    store = await filled(3)
    seen = []
    async for jobs in walk(store):
        seen += [job.id for job in jobs]
        await store.enqueue([NewJob(id="late", task="t")])
    assert seen == ["j1", "j2", "j3"]


ENDS = st.sampled_from([None, *End])


@feature("H8", "H9")
@given(
    jobs=st.lists(
        st.tuples(st.sampled_from(State), st.sampled_from("ab"), st.sampled_from(["w", "v"]), ENDS), max_size=20
    ),
    now=st.integers(0, 10**6).map(float),
    ages=st.lists(st.floats(0, 10 * 3_600.0), min_size=20, max_size=20),
)
def test_figures_add_up(jobs: list[tuple[State, str, str, End | None]], now: float, ages: list[float]) -> None:
    workers, series = WorkerTally("w"), SeriesTally("w", 5, now)
    for number, ((state, queue, worker, end), age) in enumerate(zip(jobs, ages, strict=False)):
        ended_at = None if end is None else now - age
        attempt = Attempt(1, 0, "", worker, 0.0, end, ended_at, 1.0)
        workers.add(Job(seq=number, id=str(number), task="t", queue=queue, state=state, last=attempt))
        series.add(attempt)
    stats, buckets = workers.stats(), series.buckets()
    mine = [job for job in jobs if job[2] == "w"]
    assert stats.total == len(mine) == sum(stats.states.values()) == sum(one.total for one in stats.queues.values())
    assert stats.total == stats.pending + stats.running + stats.succeeded + stats.failed + stats.canceled
    ended = stats.succeeded + stats.failed
    assert stats.success_rate == (stats.succeeded / ended if ended else None)
    assert len(buckets) == 5
    assert all(bucket.succeeded + bucket.failed <= bucket.total for bucket in buckets)
    newest = sum(
        1 for job, age in zip(jobs, ages, strict=False) if job[2] == "w" and job[3] and now - age >= buckets[0].at
    )
    assert sum(bucket.total for bucket in buckets) == newest


async def test_figures_of_workers_look_at_no_job_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the history is: what has ended was counted when it did."""
    h = LedgerHarness(MemoryHarness())
    await h.open()
    await h.store.make(20)
    for claim in await h.store.claim(15):
        await h.store.settle(claim, duration=0.5)
    await h.record("elsewhere", queue="other")
    await h.report(1, End.SUCCEEDED, "elsewhere", duration=2.0, started_at=h.now - 2.0, ended_at=h.now)

    def walked(*_given: object, **_named: object) -> None:
        raise AssertionError("a walk over all jobs")

    looked = list[int]()
    real = ledger_history._jobs

    def jobs(ledger: Ledger, numbers: Sequence[int]) -> list[Job]:
        looked.extend(numbers)
        return real(ledger, numbers)

    monkeypatch.setattr(ledger_history, "walk", walked)
    monkeypatch.setattr(ledger_history, "_jobs", jobs)
    [running] = await h.store.claim(1)
    for worker in ("w", ""):
        stats = await h.jobs.worker_stats(worker)
        assert (stats.succeeded, stats.running, stats.pending) == (16, 1, 0 if worker else 4)
        assert stats.avg_duration == (15 * 0.5 + 2.0) / 16
        assert sum(bucket.total for bucket in await h.jobs.worker_time_series(worker)) == 16
    assert looked == [running.item.seq]
    await h.close()


async def test_hours_of_reports_outlive_their_records_and_a_restart(
    history_factory: Callable[[], HistoryHarness],
) -> None:
    h = history_factory()
    await h.open()
    for name, end in (("good", End.SUCCEEDED), ("bad", End.CANCELED)):
        await h.record(name, queue="a")
        await h.report(1, end, name, duration=2.0, started_at=h.now - 2.0, ended_at=h.now)
    for job_id in ("good", "bad"):
        await h.store.done(Delete(hard=True), job_id)
    if isinstance(h.store, JournalHarness):
        await h.store.restart()
        h = LedgerHarness(h.store)
    [bucket] = [one for one in await h.jobs.worker_time_series("w", 24) if one.total]
    assert (bucket.total, bucket.succeeded, bucket.avg_duration) == (2, 1, 2.0)
    assert (await h.jobs.worker_stats("w")).total == 0
    await h.close()


def test_a_snapshot_holds_the_hours_of_reports() -> None:
    reports = Reports()
    said = Attempt(1, 0, "", "w", 900.0, end=End.FAILED, ended_at=7_300.0, duration=2.0)
    record = Job(seq=1, id="x", task="t", origin=EXTERNAL, last=said, updated_at=7_300.0, attempt=1)
    reports.note(None, record)
    reports.note(record, record)
    other = replace(record, last=replace(said, end=End.SUCCEEDED, duration=3.0))
    reports.note(record, other)
    assert reports.hour(2) == [("w", OUTCOMES[End.SUCCEEDED], 1, 1, 3_000_000)]
    fresh = Reports()
    for facts in reports.facts():
        for fact in facts:
            fresh.restore(fact)  # type: ignore[arg-type]
    assert fresh.hour(2) == reports.hour(2)
    reports.note(None, replace(record, updated_at=8e5))
    assert reports.hour(2) == []  # nobody asks for it any more


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_counted_is_what_adding_up_all_jobs_gives(seed: int) -> None:
    life = Life(seed).live(400)
    store = MemoryStore(clock=ManualClock())
    await store.open()
    store.ledger = life.ledger
    for worker in {"", "nobody", *(one.worker for job in life.ledger.table.values() for one in job.attempts)}:
        tally = WorkerTally(worker)
        for job in life.ledger.table.values():
            tally.add(job)
        assert await LedgerJobs(store).worker_stats(worker) == tally.stats()
