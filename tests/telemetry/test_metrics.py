"""Metrics tell the truth: the seed's names, values that agree with the store, bounded labels."""

import sys
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from holdfast.clock import ManualClock
from holdfast.errors import MissingExtra, StoreUnavailable
from holdfast.job import commands as c
from holdfast.job.commands import Cancel, JobFilter, Order, Replay, Retry, Selection
from holdfast.job.model import InstanceState, NewJob
from holdfast.job.state import State
from holdfast.stores.memory import MemoryStore
from holdfast.telemetry.front_door import FrontDoor
from holdfast.telemetry.metrics import Metrics
from holdfast.telemetry.scrape import COUNTERS
from holdfast.telemetry.tally import BUCKETS, OTHER, Tally
from holdfast.testing.contract.harness import ERROR, StoreHarness
from holdfast.worker.context import Context
from tests.features import feature
from tests.worker.rig import AT_ONCE, Rig, Watch

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Bench:
    """A store behind a door with metrics, and what a scrape of it says."""

    def __init__(self, metrics: Metrics) -> None:
        clock = ManualClock()
        self.metrics = metrics
        self.door = FrontDoor(MemoryStore(clock=clock), [metrics], clock=clock)
        self.h = StoreHarness(self.door, clock)

    async def scrape(self) -> dict[Sample, float]:
        return read(await self.metrics.scrape(self.door))

    async def total(self, name: str, **labels: str) -> float:
        return total(await self.scrape(), name, **labels)


def read(text: bytes) -> dict[Sample, float]:
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "no sample twice"
    return found


def total(samples: Mapping[Sample, float], name: str, **labels: str) -> float:
    assert any(found.removesuffix("_total") == name.removesuffix("_total") for found, _ in samples) or not labels
    return sum(value for (found, own), value in samples.items() if found == name and labels.items() <= set(own))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Metrics())
    await bench.h.open()
    yield bench
    await bench.h.close()


async def mixed_run(h: StoreHarness) -> None:
    """Every way in which an attempt can end, twice over two queues, and operators in between."""
    for queue in ("mail", "default"):
        for ending in (
            c.Succeeded(b"1"), c.Failed(ERROR), c.TimedOut(ERROR), c.Snoozed(5.0), c.Canceled("no"), c.Released("stop"),
            c.Crashed(ERROR), c.Failed(ERROR, retryable=False), c.Succeeded(b"2"),
        ):  # fmt: skip
            await h.add(queue=queue)
            claim = await h.claim_one(queues=(queue,))
            await h.settle(claim, ending, duration=0.3)
            await h.settle(claim, c.Succeeded(b"late"))
    h.advance(10.0)
    await h.claim(3, "dies")
    await h.died("dies")
    await h.claim(4, "silent", queues=("mail", "default"))
    await h.lose()
    await h.add_many(5)
    page = await h.store.find(JobFilter(states=(State.QUEUED,)), c.Page(limit=2))
    for job in page.items:
        await h.order(Cancel(), job.id)


@feature("B50", "A23")
async def test_counters_agree_with_the_store_after_a_mixed_run(bench: Bench) -> None:
    await mixed_run(bench.h)
    samples, stats = await bench.scrape(), await bench.door.stats()
    jobs = await bench.h.all_jobs()
    attempts = [attempt for job in jobs for attempt in job.attempts]
    spent = [attempt for attempt in attempts if attempt.failed or attempt.end == "stale"]
    assert (
        total(samples, "queue_jobs_enqueued_total") == len(jobs) == sum(sum(q.values()) for q in stats.queues.values())
    )
    assert total(samples, "queue_jobs_dispatched_total") == len(attempts)
    assert total(samples, "queue_jobs_completed_total") == stats.total(State.SUCCEEDED)
    assert total(samples, "queue_jobs_dead_total") == stats.total(State.FAILED)
    assert total(samples, "queue_jobs_canceled_total") == stats.total(State.CANCELED) - 2  # two never ran
    assert total(samples, "queue_jobs_failed_total") == len(spent)
    assert total(samples, "queue_jobs_retried_total") == len(spent) - stats.total(State.FAILED)
    assert total(samples, "queue_jobs_timeout_total") == sum(attempt.end == "timed_out" for attempt in attempts) == 2
    assert total(samples, "queue_jobs_crashed_total") == sum(attempt.end == "crashed" for attempt in attempts)
    assert total(samples, "queue_jobs_lost_total") == sum(attempt.end in ("lost", "stale") for attempt in attempts)
    assert total(samples, "queue_stale_refused_total") == stats.stale_refused > 0
    assert total(samples, "queue_orders_total", action="cancel") == 2
    for queue in ("mail", "default"):
        mine = sum(job.queue == queue for job in jobs)
        assert total(samples, "queue_jobs_enqueued_total", queue=queue, task="t") == mine


@feature("B52", "BW23")
async def test_gauges_are_read_from_the_store_when_it_is_scraped(bench: Bench) -> None:
    await mixed_run(bench.h)
    await bench.h.claim(1)
    samples, stats = await bench.scrape(), await bench.door.stats()
    for queue, counts in stats.queues.items():
        waiting = sum(counts[state] for state in (State.SCHEDULED, State.QUEUED, State.RETRYING, State.PAUSED))
        assert total(samples, "queue_depth", queue=queue) == waiting
        assert total(samples, "queue_jobs_pending", queue=queue) == counts[State.QUEUED]
        assert total(samples, "queue_jobs_in_flight", queue=queue) == counts[State.RUNNING]
        for state in State:
            assert total(samples, "queue_jobs", queue=queue, state=state.value) == counts[state]
    assert total(samples, "queue_jobs_in_flight") == 1
    await bench.h.add_many(7)
    bench.h.advance(30.0)
    assert await bench.total("queue_depth") == total(samples, "queue_depth") + 7
    assert await bench.total("queue_oldest_ready_seconds", queue="default") >= 30.0
    assert await bench.total("queue_recovery_seconds") == 0.0
    assert await bench.total("queue_store_up") == 1.0


@feature("B51")
async def test_run_times_are_a_histogram_with_the_seeds_buckets(bench: Bench) -> None:
    for seconds in (0.0, 0.1, 0.1001, 0.7, 4.0, 5.0, 400.0):
        await bench.h.make()
        await bench.h.settle(await bench.h.claim_one(), duration=seconds)
    await bench.h.make()
    await bench.h.settle(await bench.h.claim_one())  # not measured
    samples = await bench.scrape()
    name = "queue_job_duration_seconds"
    at_most = {
        le: total(samples, f"{name}_bucket", le=le) for le in ("0.1", "0.5", "1.0", "2.0", "5.0", "300.0", "+Inf")
    }
    assert at_most == {"0.1": 2, "0.5": 3, "1.0": 4, "2.0": 4, "5.0": 6, "300.0": 6, "+Inf": 7}
    assert total(samples, f"{name}_count") == 7
    assert total(samples, f"{name}_sum") == pytest.approx(409.9001)
    assert {0.1, 0.5, 1.0, 2.0, 5.0} <= set(BUCKETS)


@feature("B50", "B51", "B53")
async def test_every_name_is_there_before_anything_has_happened(bench: Bench) -> None:
    text = (await bench.metrics.scrape(bench.door)).decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    seed = {
        f"queue_jobs_{what}" for what in ("enqueued", "dispatched", "completed", "failed", "retried", "dead", "timeout")
    }
    assert seed | {"queue_job_duration_seconds", "queue_depth", "queue_recovery_seconds"} <= families
    assert {name for name, _ in COUNTERS.values()} <= families
    assert "# TYPE queue_jobs_dispatched_total counter" in text
    assert "# TYPE queue_job_duration_seconds histogram" in text


@feature("BW23")
async def test_two_apps_in_one_process_do_not_meet(bench: Bench) -> None:
    second = Bench(Metrics())
    await second.h.open()
    await second.h.make(3)
    assert await second.total("queue_jobs_enqueued_total") == 3
    assert await bench.total("queue_jobs_enqueued_total") == 0
    assert second.metrics.registry is not bench.metrics.registry


async def test_a_repeated_settle_is_counted_once(bench: Bench) -> None:
    await bench.h.make()
    claim = await bench.h.claim_one()
    for _ in range(3):
        assert (await bench.h.settle(claim, duration=1.0)).accepted in (c.Accepted.APPLIED, c.Accepted.REPEATED)
    assert await bench.total("queue_jobs_completed_total") == 1
    assert await bench.total("queue_job_duration_seconds_count") == 1


async def test_a_duplicate_is_not_counted_as_a_job_and_a_replay_is(bench: Bench) -> None:
    new = bench.h.new(id="a")
    for _ in range(2):
        await bench.door.enqueue([new], on_duplicate=c.OnDuplicate.REPORT)
    await bench.h.run_all()
    await bench.h.order(Replay(), "a")
    await bench.h.run_all()
    every = Selection(filter=JobFilter(states=(State.SUCCEEDED,)))
    await bench.door.control(Order(action=Replay(force=True), selection=every))
    assert await bench.total("queue_jobs_enqueued_total") == 4 == await bench.door.count(JobFilter())
    assert await bench.total("queue_orders_total", action="replay") == 3


async def test_a_cancel_that_was_asked_is_no_failure(bench: Bench) -> None:
    [job_id] = await bench.h.make()
    claim = await bench.h.claim_one()
    await bench.h.ask_cancel(job_id)
    await bench.h.settle(claim, c.Failed(ERROR))
    await bench.h.make()
    [other] = await bench.h.claim()
    await bench.h.ask_cancel(other.id)
    await bench.h.lose()
    assert await bench.total("queue_jobs_canceled_total") == 2
    assert await bench.total("queue_jobs_lost_total") == 1
    assert await bench.total("queue_jobs_failed_total") == 0


async def test_a_retry_in_place_is_counted_as_an_order(bench: Bench) -> None:
    job = await bench.h.in_state(State.FAILED)
    await bench.h.order(Retry(), job.id)
    assert await bench.total("queue_orders_total", action="retry") == 1


async def test_refused_progress_is_counted_as_stale(bench: Bench) -> None:
    await bench.h.make()
    claim = await bench.h.claim_one()
    await bench.h.settle(claim)
    await bench.door.progress([c.Progress(claim, b"1")])
    assert await bench.total("queue_stale_refused_total") == 1 == (await bench.door.stats()).stale_refused


async def test_labels_are_bounded_and_sums_stay_true() -> None:
    bench = Bench(Metrics(labels_max=3))
    await bench.h.open()
    for number in range(10):
        await bench.h.add(queue=f"q{number}", task=f"t{number}")
        await bench.h.settle(await bench.h.claim_one(queues=(f"q{number}",)), duration=1.0)
    await bench.h.add(queue="q0", task="new")
    samples = await bench.scrape()
    for name in ("queue_jobs_enqueued_total", "queue_job_duration_seconds_count", "queue_jobs"):
        labels = [dict(own) for found, own in samples if found == name]
        assert {own["queue"] for own in labels} == {"q0", "q1", "q2", OTHER}
        assert total(samples, name) in (10, 11)
    assert total(samples, "queue_jobs_enqueued_total", queue="q0", task=OTHER) == 1
    assert total(samples, "queue_jobs_enqueued_total") == total(samples, "queue_jobs") == 11
    assert total(samples, "queue_depth") == 1


async def test_a_store_that_does_not_answer_is_shown_as_down_and_counters_stay(bench: Bench) -> None:
    await bench.h.make(2)
    await bench.door.close()
    bench.door.inner.stats = _away  # type: ignore[method-assign]  # the memory store itself can not go away
    samples = await bench.scrape()
    assert total(samples, "queue_store_up") == 0
    assert total(samples, "queue_jobs_enqueued_total") == 2
    assert not any(name == "queue_depth" for name, _ in samples)


async def _away() -> Any:
    raise StoreUnavailable("the database does not answer")


async def test_worker_processes_are_counted_by_state(bench: Bench) -> None:
    await bench.h.beat("i1", state=InstanceState.READY)
    await bench.h.beat("i2", state=InstanceState.READY)
    assert await bench.total("queue_workers", state="ready") == 2
    assert await bench.total("queue_workers", state="lost") == 0


async def test_without_prometheus_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"holdfast\[node\]"):
        Metrics()


def test_counts_from_many_threads_are_all_there() -> None:
    tally = Tally(10)
    start = threading.Barrier(8, timeout=20)

    def work() -> None:
        start.wait()
        for _ in range(500):
            tally.count("enqueued", [("q", "t")] * 3)
            tally.ran({("q", "t"): [1.0]})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = tally.read()
    assert counts.counters["enqueued"] == {("q", "t"): 12_000}
    assert counts.durations["q", "t"].total == 4_000.0


class Relays(Watch):
    """A watch that tells the metrics too."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def lost(self, ctx: Context) -> None:
        self._metrics.worker.lost(ctx)
        super().lost(ctx)

    def abandoned(self, ctx: Context, ending: c.Ending | None) -> None:
        self._metrics.worker.abandoned(ctx, ending)
        super().abandoned(ctx, ending)


async def test_a_workers_run_is_counted_from_enqueue_to_end(rig: Rig) -> None:
    metrics = Metrics()
    rig.source = door = FrontDoor(rig.store, [metrics])
    tries: list[int] = []

    @rig.task
    async def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")

    await door.enqueue([NewJob(id="one", task="flaky", retry=AT_ONCE)])
    async with rig.working():
        await rig.ended("one")
    samples = read(await metrics.scrape(door))
    for name, value in {"dispatched": 3, "failed": 2, "retried": 2, "completed": 1, "dead": 0, "enqueued": 1}.items():
        assert total(samples, f"queue_jobs_{name}_total") == value, name
    assert total(samples, "queue_job_duration_seconds_count") == 3


async def test_a_claim_that_was_lost_while_its_handler_ran_is_counted(rig: Rig) -> None:
    metrics = Metrics()
    watch = Relays(metrics)

    @rig.task
    async def slow(ctx: Context) -> None:
        await ctx.cancel_wait()

    await rig.enqueue("slow")
    async with rig.working(watch=watch):
        await watch.times("started", 1)
        rig.advance(1_000.0)  # as if the machine had slept
        await watch.times("lost", 1)
    samples = read(await metrics.scrape(rig.store))
    assert total(samples, "queue_leases_lost_total", queue="default", task="slow") == 1
