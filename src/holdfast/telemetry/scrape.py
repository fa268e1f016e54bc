"""From counts and the store's figures to metric families: the names, and what each means.

The module imports prometheus_client when it first collects, so that importing it costs nothing.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.commands import Stats
from holdfast.job.model import Instance, InstanceState
from holdfast.job.state import State
from holdfast.statistics import Statistics
from holdfast.telemetry.tally import BUCKETS, OTHER, Counts, Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: By queue and task: each is exposed with the suffix _total.
COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "enqueued": ("queue_jobs_enqueued", "Jobs accepted."),
    "dispatched": ("queue_jobs_dispatched", "Attempts handed to a worker."),
    "completed": ("queue_jobs_completed", "Jobs that succeeded."),
    "failed": ("queue_jobs_failed", "Attempts that spent a failure: raised, timed out, lost or crashed."),
    "retried": ("queue_jobs_retried", "Failed attempts whose job will run again."),
    "dead": ("queue_jobs_dead", "Jobs that gave up."),
    "canceled": ("queue_jobs_canceled", "Running jobs that ended as canceled."),
    "timeout": ("queue_jobs_timeout", "Attempts that went past their time limit."),
    "lost": ("queue_jobs_lost", "Attempts whose lease ended without a word of their worker."),
    "crashed": ("queue_jobs_crashed", "Attempts whose process was seen to die."),
    "stale_refused": ("queue_stale_refused", "Writes of workers refused because a later claim or a settle came first."),
    "leases_lost": ("queue_leases_lost", "Handlers stopped because their claim was over."),
    "abandoned": ("queue_handlers_abandoned", "Handlers that did not stop when they were cancelled."),
    "unsettled": ("queue_outcomes_unsettled", "Outcomes that could not be stored."),
}
_DURATION: Final = ("queue_job_duration_seconds", "Run time of attempts.")
_WAITING: Final = (State.SCHEDULED, State.QUEUED, State.RETRYING, State.PAUSED)


class Reading(msgspec.Struct, frozen=True):
    """What the store said when it was asked. now: by its clock."""

    stats: Stats
    instances: tuple[Instance, ...]
    now: float
    hour: tuple[Statistics, ...] = ()  # of the running hour, by queue


class Page:
    """A collector: it yields the families of what it was last given."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self.counts = Counts({}, {}, {})
        self.reading: Reading | None = None
        self.recovery: float | None = None

    def describe(self) -> list[Any]:
        """Nothing: the registry need not collect at registration."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield every family, also those without samples yet, so that dashboards find their names."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for key, (name, text) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["queue", "task"])
            for pair, number in self.counts.counters.get(key, {}).items():
                family.add_metric(pair, number)
            yield family
        orders = CounterMetricFamily("queue_orders", "Jobs changed by operators.", labels=["action"])
        for action, number in self.counts.orders.items():
            orders.add_metric([action], number)
        yield orders
        durations = HistogramMetricFamily(*_DURATION, labels=["queue", "task"])
        for pair, found in self.counts.durations.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            durations.add_metric(pair, list(zip(bounds, accumulate(found.counts), strict=True)), found.total)
        yield durations
        for name, text, labels, samples in self._gauges():
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, value in samples.items():
                gauge.add_metric(values, value)
            yield gauge

    def _gauges(self) -> Iterator[tuple[str, str, list[str], Mapping[tuple[str, ...], float]]]:
        up: dict[tuple[str, ...], float] = {(): float(self.reading is not None)}
        yield "queue_store_up", "Whether the store answered.", [], up
        if self.recovery is not None:
            yield "queue_recovery_seconds", "How long the store took to open.", [], {(): self.recovery}
        if self.reading is None:
            return
        by_state = self._by_state(self.reading.stats)
        waiting, pending, running = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for (queue, state), count in by_state.items():
            waiting[queue,] += count if state in _WAITING else 0
            pending[queue,] += count if state == State.QUEUED else 0
            running[queue,] += count if state == State.RUNNING else 0
        yield "queue_depth", "Jobs that wait: scheduled, queued, retrying, paused.", ["queue"], waiting
        yield "queue_jobs_pending", "Jobs that are ready to run.", ["queue"], pending
        yield "queue_jobs_in_flight", "Jobs that run.", ["queue"], running
        yield "queue_jobs", "Jobs on record.", ["queue", "state"], by_state
        yield "queue_oldest_ready_seconds", "How long the first ready job has waited.", ["queue"], self._ages()
        yield "queue_workers", "Worker processes.", ["state"], self._workers()
        yield from self._hour(self.reading.hour)

    def _hour(
        self, found: tuple[Statistics, ...]
    ) -> Iterator[tuple[str, str, list[str], Mapping[tuple[str, ...], float]]]:
        """What ended in the running hour, over the whole fleet. Queues without a name of their own are only counted."""
        ended = Counter[tuple[str, ...]]()
        rates: dict[tuple[str, ...], float] = {}
        times: dict[str, dict[tuple[str, ...], float]] = {"waiting": {}, "running": {}}
        for one in found:
            label = self._labels.queue(one.name)
            for outcome, count in one.outcomes.items():
                ended[label, outcome] += count
            if label == OTHER:
                continue
            if one.success_rate is not None:
                rates[label,] = one.success_rate
            for kind, spread in (("waiting", one.waiting), ("running", one.running)):
                for percentile in ("50", "95", "99"):
                    value = getattr(spread, f"p{percentile}")
                    if value is not None:
                        times[kind][label, percentile] = value
        yield "queue_hour_attempts", "Attempts that ended in the running hour of UTC.", ["queue", "outcome"], ended
        text = "Share of the jobs that ended in the running hour, which succeeded."
        yield "queue_hour_success_ratio", text, ["queue"], rates
        labels = ["queue", "percentile"]
        text = "Percentiles of the time from ready to claimed, of the running hour."
        yield "queue_hour_waiting_seconds", text, labels, times["waiting"]
        text = "Percentiles of the time from claimed to ended, of the running hour."
        yield "queue_hour_running_seconds", text, labels, times["running"]

    def _by_state(self, stats: Stats) -> Counter[tuple[str, ...]]:
        found = Counter[tuple[str, ...]]()
        for queue, counts in stats.queues.items():
            label = self._labels.queue(queue)
            for state, count in counts.items():
                found[label, state] += count
        return found

    def _ages(self) -> dict[tuple[str, ...], float]:
        assert self.reading is not None, "asked only when the store has answered"
        ages: dict[tuple[str, ...], float] = {}
        for queue, since in self.reading.stats.oldest_ready_at.items():
            label = (self._labels.queue(queue),)
            ages[label] = max(ages.get(label, 0.0), self.reading.now - since)
        return ages

    def _workers(self) -> Counter[tuple[str, ...]]:
        assert self.reading is not None, "asked only when the store has answered"
        states = Counter[tuple[str, ...]]({(state.value,): 0 for state in InstanceState})
        states.update((instance.state.value,) for instance in self.reading.instances)
        return states
