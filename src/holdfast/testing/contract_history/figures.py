"""Statistics, held against values computed by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from holdfast.history import (
    HOUR,
    QueueFigures,
)
from holdfast.job.commands import ChangeQueue, Released, Snoozed, TimedOut
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import ERROR
from holdfast.testing.contract_history.harness import HistoryHarness, HistorySuite, feature


class Figures(HistorySuite):
    """Statistics, held against values computed by hand."""

    @feature("H8", "HW16")
    async def test_worker_stats_equal_what_was_done(self, h: HistoryHarness) -> None:
        for state in (State.SUCCEEDED, State.FAILED, State.RETRYING):
            await h.store.in_state(state, queue="a")
        await h.store.make(3)
        await h.store.settle(await h.store.claim_one(), duration=2.0)
        await h.store.settle(await h.store.claim_one(), duration=4.0)
        await h.store.claim_one()
        await h.store.in_state(State.SCHEDULED)  # no worker has had it
        await h.sync()
        stats = await h.jobs.worker_stats("w")
        assert (stats.worker, stats.total, stats.pending, stats.running) == ("w", 6, 1, 1)
        assert (stats.succeeded, stats.failed, stats.canceled) == (3, 1, 0)
        assert (stats.success_rate, stats.avg_duration) == (0.75, 3.0)
        assert set(stats.states) == set(State)
        assert stats.states[State.RETRYING] == 1
        assert stats.queues == {
            "a": QueueFigures(total=3, succeeded=1, failed=1, success_rate=0.5),
            "default": QueueFigures(total=3, succeeded=2, failed=0, success_rate=1.0, avg_duration=3.0),
        }
        assert (await h.jobs.worker_stats()).total == 7
        nobody = await h.jobs.worker_stats("nobody")
        assert (nobody.total, nobody.success_rate, nobody.avg_duration) == (0, None, None)

    @feature("H9", "HW16")
    @pytest.mark.parametrize(("asked", "hours"), [(0, 24), (-1, 24), (1, 1), (24, 24), (168, 168), (169, 24)])
    async def test_a_series_has_a_bucket_for_every_hour_up_to_now(
        self, h: HistoryHarness, asked: int, hours: int
    ) -> None:
        buckets = await h.jobs.worker_time_series("w", asked)
        newest = h.now - h.now % HOUR
        assert [bucket.at for bucket in buckets] == [newest - HOUR * back for back in range(hours - 1, -1, -1)]
        assert all((b.total, b.succeeded, b.failed, b.avg_duration) == (0, 0, 0, None) for b in buckets)

    @feature("H9")
    async def test_a_series_equals_values_computed_by_hand(self, h: HistoryHarness) -> None:
        top = h.now - h.now % HOUR
        ends = [
            (End.SUCCEEDED, 1.0, top - HOUR), (End.SUCCEEDED, 3.0, top - 0.001), (End.TIMED_OUT, 9.0, top - 1.0),
            (End.LOST, None, top), (End.SNOOZED, 1.0, top), (End.FAILED, 1.0, top - 2 * HOUR - 0.001),
        ]  # fmt: skip
        for number, (end, duration, at) in enumerate(ends):
            await h.record(f"j{number}")
            await h.report(1, end, f"j{number}", started_at=at - 10.0, ended_at=at, duration=duration)
        await h.record("open")
        await h.report(1, None, "open", started_at=top)
        await h.record("other")
        await h.report(1, End.SUCCEEDED, "other", worker="other", ended_at=top)
        before, newest = (await h.jobs.worker_time_series("w", 2))[-2:]
        assert (before.total, before.succeeded, before.failed, before.avg_duration) == (3, 2, 1, 2.0)
        assert (newest.total, newest.succeeded, newest.failed, newest.avg_duration) == (2, 0, 1, None)
        assert sum(bucket.total for bucket in await h.jobs.worker_time_series("", 3)) == 6
        assert sum(bucket.total for bucket in await h.jobs.worker_time_series("", 4)) == 7

    @feature("HW4")
    async def test_a_series_counts_each_attempt_of_the_engine_once(self, h: HistoryHarness) -> None:
        await h.store.make()
        for ending in (TimedOut(ERROR), Released("stop"), Snoozed(0.0), None):
            await h.store.settle(await h.store.claim_one(), ending, duration=2.0)
        await h.sync()
        newest = (await h.jobs.worker_time_series("w"))[-1]
        assert (newest.total, newest.succeeded, newest.failed, newest.avg_duration) == (4, 1, 1, 2.0)

    @feature("H9")
    async def test_a_series_keeps_what_retention_has_purged(self, h: HistoryHarness) -> None:
        await h.store.make(2)
        await h.store.settle(await h.store.claim_one(), duration=2.0)
        await h.store.settle(await h.store.claim_one(), TimedOut(ERROR), duration=9.0)
        await h.sync()
        before = await h.jobs.worker_time_series("w")
        assert (before[-1].total, before[-1].succeeded, before[-1].failed, before[-1].avg_duration) == (2, 1, 1, 2.0)
        await h.store.store.change_queue(ChangeQueue(name=h.store.queue, keep_succeeded=0.0, create=True))
        h.store.advance(1.0)
        assert (await h.store.store.rescue()).pruned == 1
        await h.sync()
        assert await h.jobs.worker_time_series("w") == before

    @feature("H8", "H9")
    async def test_a_report_that_comes_again_with_other_words_counts_once(self, h: HistoryHarness) -> None:
        await h.record(queue="a")
        job = await h.report(1, End.SUCCEEDED, started_at=h.now - 4.0, ended_at=h.now, duration=2.0)
        assert job.last is not None
        await h.jobs.upsert([replace(job, last=replace(job.last, duration=4.0))])
        await h.report(2, End.SUCCEEDED, worker="v", started_at=h.now - 4.0, ended_at=h.now, duration=6.0)
        newest = (await h.jobs.worker_time_series("w"))[-1]
        assert (newest.total, newest.succeeded, newest.avg_duration) == (1, 1, 4.0)
        both, first = await h.jobs.worker_stats(), await h.jobs.worker_stats("w")
        assert (both.total, both.succeeded, both.avg_duration) == (1, 1, 5.0)
        # The newest attempt was with v, so the job is v's; the attempt was w's all the same.
        assert (first.total, first.avg_duration, (await h.jobs.worker_stats("v")).avg_duration) == (0, 4.0, 6.0)

    @feature("H8")
    async def test_queue_stats_hold_every_state_and_what_ran_elsewhere(self, h: HistoryHarness) -> None:
        oldest = h.now
        await h.store.in_state(State.FAILED, queue="b")
        await h.store.add(queue="b")
        await h.record(queue="a", state=State.RUNNING)
        await h.sync()
        first, second = await h.jobs.queue_stats()
        assert (first.name, first.size, first.records[State.RUNNING], first.oldest_ready_at) == ("a", 0, 1, None)
        assert (second.name, second.size, second.paused, second.oldest_ready_at) == ("b", 1, False, oldest)
        assert second.states == {**dict.fromkeys(State, 0), State.FAILED: 1, State.QUEUED: 1}
        assert set(second.records) == set(State)
