"""Statistics of attempts: held against values computed by hand, and against the attempts themselves."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import pytest

from holdfast.errors import ContentError
from holdfast.history import HOUR, GroupBy, Span, Spread, StatisticsFilter
from holdfast.job.commands import Canceled, Crashed, Delete, Failed, Released, Snoozed, Succeeded, TimedOut
from holdfast.job.commands.hot import Ending
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End
from holdfast.statistics import DAY
from holdfast.testing.contract.harness import ERROR
from holdfast.testing.contract_history.harness import HistoryHarness, HistorySuite, feature

#: How far a percentile may be from the truth: the width of a bucket.
RATIO = 2**0.25


def about(seconds: float | None, truth: float) -> bool:
    """Whether a percentile is as near to the truth as it must be."""
    return seconds is not None and truth / RATIO <= seconds <= truth * RATIO


class StatisticsOfAttempts(HistorySuite):
    """Statistics of attempts that ended."""

    async def ran(
        self, h: HistoryHarness, waited: float, took: float, ending: Ending | None = None, **fields: object
    ) -> None:
        """Enqueue a job, let it wait, claim it, let it run, and end its attempt."""
        worker = str(fields.pop("worker", "w"))
        job = await h.store.add(**fields)
        h.store.advance(waited)
        claim = await h.store.claim_one(queues=(job.queue,), worker=worker, instance=f"of-{worker}")
        assert claim.id == job.id
        h.store.advance(took)
        await h.store.settle(claim, ending)

    @feature("H8", "HW16")
    async def test_nothing_that_ended_is_zero_and_not_unknown_to_the_reader(self, h: HistoryHarness) -> None:
        await h.store.add()
        await h.sync()
        [all_of_it] = await h.jobs.statistics(StatisticsFilter())
        assert (all_of_it.total, all_of_it.succeeded, all_of_it.failed, all_of_it.success_rate) == (0, 0, 0, None)
        assert (all_of_it.waiting, all_of_it.running) == (Spread(), Spread())
        assert all_of_it.outcomes == dict.fromkeys(map(str, End), 0)
        assert list(await h.jobs.statistics(StatisticsFilter(), GroupBy.QUEUE)) == []

    @feature("H8", "HW16", "A15")
    async def test_waiting_and_running_time_are_counted_by_the_stores_clock(self, h: HistoryHarness) -> None:
        for waited, took in [(1.0, 10.0)] * 90 + [(4.0, 20.0)] * 9 + [(64.0, 400.0)]:
            await self.ran(h, waited, took)
        await h.sync()
        [found] = await h.jobs.statistics(StatisticsFilter())
        assert (found.total, found.succeeded) == (100, 100)
        assert found.waiting.mean == pytest.approx((90 + 36 + 64) / 100)
        assert found.running.mean == pytest.approx((900 + 180 + 400) / 100)
        for spread, truths in ((found.waiting, (1.0, 4.0, 4.0)), (found.running, (10.0, 20.0, 20.0))):
            assert all(map(about, (spread.p50, spread.p95, spread.p99), truths))

    @feature("H8", "HW5", "HW16")
    async def test_the_success_rate_is_over_jobs_that_ended_and_a_retry_is_no_end(self, h: HistoryHarness) -> None:
        once = RetryPolicy(max_attempts=1)
        await self.ran(h, 0.0, 1.0)
        await self.ran(h, 0.0, 1.0)
        await self.ran(h, 0.0, 1.0, Failed(ERROR), retry=once)
        await self.ran(h, 0.0, 1.0, Failed(ERROR, retry_in=60.0))
        await self.ran(h, 0.0, 1.0, Snoozed(60.0))
        await self.ran(h, 0.0, 1.0, Canceled("no"))
        await h.sync()
        [found] = await h.jobs.statistics(StatisticsFilter())
        assert (found.total, found.succeeded, found.failed, found.gave_up) == (6, 2, 2, 1)
        assert found.success_rate == pytest.approx(2 / 3)

    @feature("H8", "HW4")
    async def test_every_attempt_is_counted_once_under_how_it_ended(self, h: HistoryHarness) -> None:
        for ending in (
            Succeeded(), TimedOut(ERROR), Failed(ERROR), Released("stop"), Snoozed(0.0), Canceled("no"), Crashed(ERROR),
        ):  # fmt: skip
            await self.ran(h, 0.0, 1.0, ending)
            for claim in await h.store.claim():  # those that are ready again
                await h.store.settle(claim)
        await h.store.add()
        await h.store.claim_one("silent")
        await h.store.lose()
        await h.sync()
        attempts = [attempt for job in await h.store.all_jobs() for attempt in job.attempts if attempt.end is not None]
        [found] = await h.jobs.statistics(StatisticsFilter())
        counts = Counter(attempt.end for attempt in attempts if attempt.end is not None)
        assert found.outcomes == {end.value: counts[end] for end in End}
        assert found.total == len(attempts)
        for one in await h.jobs.statistics(StatisticsFilter(), GroupBy.OUTCOME):
            assert (one.total, one.outcomes[one.name]) == (counts[End(one.name)], counts[End(one.name)])

    @feature("H8")
    async def test_statistics_are_told_apart_by_queue_task_worker_and_outcome(self, h: HistoryHarness) -> None:
        for number, (queue, task, worker) in enumerate(product("ab", ("t1", "t2"), ("w1", "w2"))):
            for _ in range(number + 1):
                await self.ran(h, 0.0, 1.0, queue=queue, task=task, worker=worker)
        await h.sync()

        async def totals(by: GroupBy, **which: object) -> dict[str, int]:
            found = await h.jobs.statistics(StatisticsFilter(**which), by)  # type: ignore[arg-type]  # fields by name
            assert [one.name for one in found] == sorted(one.name for one in found)
            return {one.name: one.total for one in found}

        assert await totals(GroupBy.ALL) == {"": 36}
        assert await totals(GroupBy.QUEUE) == {"a": 10, "b": 26}
        assert await totals(GroupBy.TASK) == {"t1": 14, "t2": 22}
        assert await totals(GroupBy.WORKER) == {"w1": 16, "w2": 20}
        assert await totals(GroupBy.OUTCOME) == {"succeeded": 36}
        assert await totals(GroupBy.WORKER, queue="a") == {"w1": 4, "w2": 6}
        assert await totals(GroupBy.QUEUE, task="t2", worker="w2") == {"a": 4, "b": 8}
        assert await totals(GroupBy.ALL, ends=(End.FAILED,)) == {"": 0}
        assert await totals(GroupBy.QUEUE, ends=(End.FAILED, End.SUCCEEDED), worker="w1") == {"a": 4, "b": 12}
        assert await totals(GroupBy.ALL, queue="none") == {"": 0}

    @feature("H9", "HW16", "A15")
    @pytest.mark.parametrize(("asked", "hours"), [(0, 24), (-1, 24), (1, 1), (24, 24), (168, 168), (169, 24)])
    async def test_a_series_has_a_point_for_every_minute_or_hour_of_utc(
        self, h: HistoryHarness, asked: int, hours: int
    ) -> None:
        for span, seconds in ((Span.HOUR, HOUR), (Span.MINUTE, 60.0)):
            count = hours * int(HOUR / seconds)
            points = await h.jobs.series(StatisticsFilter(hours=asked), span)
            newest = h.now - h.now % seconds
            assert [point.at for point in points] == [newest - seconds * back for back in range(count - 1, -1, -1)]
            assert all((point.total, point.success_rate, point.running) == (0, None, Spread()) for point in points)

    @feature("H9", "HW16", "A15")
    async def test_an_hourly_series_over_24_and_168_hours_equals_values_computed_by_hand(
        self, h: HistoryHarness
    ) -> None:
        h.store.advance(HOUR - h.now % HOUR)  # the hour is full
        begin = h.now
        done: Counter[int] = Counter()
        failed: Counter[int] = Counter()
        for hour in (0, 1, 1, 5, 100, 144, 145, 167):
            h.store.advance(begin + hour * HOUR + 10.0 - h.now if h.now < begin + hour * HOUR + 10.0 else 1.0)
            await self.ran(h, 2.0, 8.0)
            done[hour] += 1
            await self.ran(h, 2.0, 8.0, Failed(ERROR, retryable=False))
            failed[hour] += 1
            await h.store.source.rescue()
            await h.sync()
        for hours in (24, 168):
            points = await h.jobs.series(StatisticsFilter(hours=hours))
            assert [point.at for point in points] == [begin + HOUR * hour for hour in range(168 - hours, 168)]
            for hour, point in zip(range(168 - hours, 168), points, strict=True):
                assert (point.succeeded, point.failed, point.gave_up) == (done[hour], failed[hour], failed[hour])
                if point.total:
                    assert (point.success_rate, point.running.mean, point.waiting.mean) == (0.5, 8.0, 2.0)
            [whole] = await h.jobs.statistics(StatisticsFilter(hours=hours))
            assert whole.total == sum(point.total for point in points)

    @feature("H9")
    async def test_minutes_hours_and_statistics_agree_before_and_after_they_are_merged(self, h: HistoryHarness) -> None:
        h.store.advance(HOUR - h.now % HOUR)
        for _ in range(10):
            await self.ran(h, 5.0, 50.0)
            await self.ran(h, 1.0, 30.0, Failed(ERROR, retry_in=10_000.0), task="other")
        await h.sync()
        which = StatisticsFilter(hours=2)
        before = await h.jobs.statistics(which, GroupBy.TASK)
        minutes = {point.at: point for point in await h.jobs.series(which, Span.MINUTE) if point.total}
        for _ in range(3):
            h.store.advance(600.0)
            await h.store.source.rescue()
            await h.sync()
            assert await h.jobs.statistics(which, GroupBy.TASK) == before
            after = await h.jobs.series(which, Span.MINUTE)
            assert {point.at: point for point in after if point.total} == minutes
            assert sum(point.total for point in await h.jobs.series(which)) == 20
        assert sum(point.total for point in minutes.values()) == 20

    @feature("H8")
    async def test_statistics_outlive_the_jobs_and_end_with_their_window(self, h: HistoryHarness) -> None:
        await self.ran(h, 1.0, 2.0)
        await h.sync()
        [job] = await h.store.all_jobs()
        await h.store.done(Delete(hard=True), job.id)
        await h.sync()
        [found] = await h.jobs.statistics(StatisticsFilter(hours=2))
        assert (found.total, found.running.mean) == (1, 2.0)
        h.store.advance(2 * HOUR)
        await h.store.source.rescue()
        await h.sync()
        assert [one.total for one in await h.jobs.statistics(StatisticsFilter(hours=2))] == [0]
        assert [one.total for one in await h.jobs.statistics(StatisticsFilter(hours=168))] == [1]

    @feature("H8", "H9", "A15")
    async def test_days_of_utc_are_told_as_far_back_as_they_are_kept_and_more_are_refused(
        self, h: HistoryHarness
    ) -> None:
        h.store.advance(DAY - h.now % DAY)
        begin, days = h.now, min(h.days_most, 40)
        made = [0, days // 3, days // 3, days - 2, days - 1]
        for day in sorted(made):
            h.store.advance(max(1.0, begin + day * DAY + 3_600.0 - h.now))
            await self.ran(h, 2.0, 8.0, queue="a")
            await self.ran(h, 4.0, 32.0, Failed(ERROR, retryable=False), queue="b")
            await h.store.source.rescue()
            await h.sync()
        points = await h.jobs.series(StatisticsFilter(days=days), Span.DAY)
        assert [point.at for point in points] == [begin + DAY * day for day in range(days)]
        counts = Counter(made)
        for day, point in enumerate(points):
            assert (point.succeeded, point.failed, point.gave_up) == (counts[day],) * 3
            if point.total:
                assert (point.success_rate, point.waiting.mean, point.running.mean) == (0.5, 3.0, 20.0)
                assert about(point.running.p50, 8.0)
                assert about(point.running.p99, 32.0)
        a, b = await h.jobs.statistics(StatisticsFilter(days=days), GroupBy.QUEUE)
        assert (a.name, a.succeeded, a.running.mean, b.name, b.gave_up, b.outcomes["failed"]) == (
            "a",
            5,
            8.0,
            "b",
            5,
            5,
        )
        [last] = await h.jobs.statistics(StatisticsFilter(days=2, queue="a"))
        assert last.succeeded == 2
        assert sum(point.total for point in await h.jobs.series(StatisticsFilter(days=days))) == 10  # its hours
        for bad in (-1, h.days_most + 1):
            with pytest.raises(ContentError, match="days"):
                await h.jobs.statistics(StatisticsFilter(days=bad))
            with pytest.raises(ContentError, match="days"):
                await h.jobs.series(StatisticsFilter(days=bad), Span.DAY)

    @feature("H8")
    async def test_very_short_and_very_long_times_are_counted(self, h: HistoryHarness) -> None:
        await self.ran(h, 0.0, 0.0)
        await self.ran(h, 40.0 * 86_400.0, 0.000_001)
        await h.sync()
        [found] = await h.jobs.statistics(StatisticsFilter(hours=1))
        assert found.total == 1
        assert about(found.waiting.p99, 40.0 * 86_400.0)
        assert found.running.p50 is not None
        assert not math.isnan(found.running.p50)
