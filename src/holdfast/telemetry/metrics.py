"""Metrics: counters kept at the front door, gauges read from the store when somebody asks.

    metrics = Metrics()
    store = FrontDoor(store, [metrics])
    hooks = Hooks(observers=[metrics.worker])
    text = await metrics.scrape(store)

Counters are those of this process and begin at 0 with it; gauges are the store's and so the same in each process of a fleet.
prometheus_client is imported when a Metrics is made, and its registry is this object's own: two apps in one process do not
meet. What is counted where stands in `_COUNTERS`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.errors import HoldfastError, MissingExtra
from holdfast.job.commands import Accepted, Crashed, Failed, Replay, Succeeded, TimedOut, Verdict
from holdfast.job.state import FINAL, End, State
from holdfast.statistics import GroupBy, StatisticsFilter
from holdfast.telemetry.observer import StoreObserver
from holdfast.telemetry.scrape import Page, Reading
from holdfast.telemetry.source_door import SourceDoor
from holdfast.telemetry.tally import Tally
from holdfast.worker.hooks import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.history import JobRepository
    from holdfast.job.commands import Claims, Ending, Enqueued, Order, Ordered, Settled, Settlement, Want
    from holdfast.store import Source, Store
    from holdfast.telemetry.observer import Gone
    from holdfast.telemetry.tally import Pair
    from holdfast.worker.context import Context

T = TypeVar("T")

LABELS_MAX: Final = 200
_COMPLETED: Final = ("completed",)
_FAILURES: Final = (Failed, TimedOut, Crashed)
#: The counter of an attempt that ended and put its job into this state.
_BY_STATE: Final = {
    State.SUCCEEDED: "completed",
    State.FAILED: "dead",
    State.CANCELED: "canceled",
}


class Metrics(StoreObserver):
    """Listens to a store; `worker` listens to a worker. One per app."""

    def __init__(self, *, labels_max: int = LABELS_MAX) -> None:
        """labels_max: how many queues, and pairs of queue and task, are named; the rest is "other".

        Raises MissingExtra without prometheus_client.
        """
        try:
            import prometheus_client
        except ImportError as error:
            raise MissingExtra("metrics", "node") from error
        self.tally = Tally(labels_max)
        self.worker: Observer = WorkerMetrics(self.tally)
        self.registry = prometheus_client.CollectorRegistry()
        self._page = Page(self.tally.labels)
        self.registry.register(self._page)
        self._generate = prometheus_client.generate_latest
        self._recovery: float | None = None

    async def scrape(self, store: Store, history: JobRepository | None = None) -> bytes:
        """Return all metrics as Prometheus text (0.0.4). A store that does not answer is shown as queue_store_up 0.

        history: tells the figures of the running hour as well.
        """
        self._page.counts = self.tally.read()
        self._page.recovery = self._recovery
        try:
            hour = () if history is None else await history.statistics(StatisticsFilter(hours=1), GroupBy.QUEUE)
            stats, instances = await store.stats(), await store.instances()
            self._page.reading = Reading(stats, tuple(instances), store.now(), tuple(hour))
        except HoldfastError:
            self._page.reading = None
        # Thousands of lines take longer than the loop should wait.
        return await asyncio.to_thread(self._generate, self.registry)

    def door(self, source: Source[T], name: str) -> SourceDoor[T]:
        """Return the front door of a source that is no store: a task table of this name."""
        return SourceDoor(source, name, [self])

    # --- what the front door tells

    def opened(self, seconds: float) -> None:
        """Keep how long recovery took."""
        self._recovery = seconds

    def enqueued(self, answers: Sequence[Enqueued]) -> None:
        """Count new jobs; one that was there already was counted when it came."""
        jobs = [answer.job for answer in answers if answer.verdict is Verdict.NEW]
        self.tally.count("enqueued", [(job.queue, job.task) for job in jobs])

    def claimed(self, want: Want, claims: Claims[Any]) -> None:
        """Count attempts that begin."""
        if claims.items:
            self.tally.count("dispatched", [(claim.queue, claim.task) for claim in claims.items])

    def settled(self, settlements: Sequence[Settlement[Any]], answers: Sequence[Settled]) -> None:
        """Count how attempts ended, and how long they took."""
        ends: defaultdict[str, list[Pair]] = defaultdict(list)
        runs: defaultdict[Pair, list[float]] = defaultdict(list)
        for settlement, answer in zip(settlements, answers, strict=True):
            claim = settlement.claim
            pair = (claim.queue, claim.task)
            for name in _names(settlement.ending, answer):
                ends[name].append(pair)
            if settlement.duration is not None and answer.accepted is Accepted.APPLIED:
                runs[pair].append(settlement.duration)
        for name, pairs in ends.items():
            self.tally.count(name, pairs)
        self.tally.ran(runs)

    def progressed(self, answers: Sequence[Settled]) -> None:
        """Count refused reports."""
        stale = sum(answer.accepted is Accepted.STALE for answer in answers)
        if stale:
            self.tally.count_unnamed("stale_refused", stale)

    def gone(self, attempts: Sequence[Gone]) -> None:
        """Count attempts whose worker was lost."""
        for one in attempts:
            pair = [(one.queue, one.task)]
            self.tally.count("lost" if one.end is End.LOST else "crashed", pair)
            if one.state is not State.CANCELED:
                self.tally.count("failed", pair)
            self.tally.count(_BY_STATE.get(one.state, "retried"), pair)

    def ordered(self, order: Order, answer: Ordered) -> None:
        """Count what an operator did."""
        if order.preview or not answer.done:
            return
        self.tally.order(str(type(order.action).__struct_config__.tag), answer.done)
        if isinstance(order.action, Replay) and answer.operation is not None:
            self.tally.count_unnamed("enqueued", answer.done)  # by filter: their ids are not told


def _names(ending: Ending, answer: Settled) -> Sequence[str]:
    """Which counters an ended attempt adds to."""
    if type(ending) is Succeeded and answer.accepted is Accepted.APPLIED:
        return _COMPLETED
    if answer.accepted is Accepted.STALE:
        return ["stale_refused"]
    if answer.accepted is Accepted.REPEATED:
        return []
    state = answer.state
    names = [_BY_STATE[state]] if state in _BY_STATE else []
    if isinstance(ending, _FAILURES) and state is not State.CANCELED:
        names.append("failed")
        if state not in FINAL:
            names.append("retried")
    if isinstance(ending, TimedOut):
        names.append("timeout")
    if isinstance(ending, Crashed):
        names.append("crashed")
    return names


class WorkerMetrics(Observer):
    """What only the worker sees."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def lost(self, ctx: Context) -> None:
        """A claim was over while its handler ran."""
        self._tally.count("leases_lost", [(ctx.queue, ctx.task)])

    def abandoned(self, ctx: Context, ending: Ending | None) -> None:
        """A handler would not stop."""
        self._tally.count("abandoned", [(ctx.queue, ctx.task)])

    def unsettled(self, ctx: Context, error: Exception) -> None:
        """An outcome could not be stored."""
        self._tally.count("unsettled", [(ctx.queue, ctx.task)])
