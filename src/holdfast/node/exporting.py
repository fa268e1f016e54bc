"""The exporter of a node: it runs as long as the node does, and its figures are metrics."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.errors import StoreUnavailable
from holdfast.exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from prometheus_client import Metric

    from holdfast.clock import Clock
    from holdfast.connect import History
    from holdfast.feed import ExportFigures, Feed

logger: Final = logging.getLogger("holdfast.export")


@asynccontextmanager
async def exporting(feed: Feed, history: History, clock: Clock) -> AsyncIterator[Exporter]:
    """Export from a store that is open to a history, until left. A history that is away does not keep the node from starting.

    Raises ConfigError when the history lets us not in or is none.
    """
    await feed.start_export()
    try:
        await history.open()
    except StoreUnavailable as error:
        logger.warning("the history is away; it is tried again, and what ends meanwhile waits in the store: %s", error)
    exporter = Exporter(feed, history.sink, clock, prepare=history.open)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_kept_going(exporter, stopping))
        try:
            yield exporter
        finally:
            stopping.set()


async def _kept_going(exporter: Exporter, stopping: asyncio.Event) -> None:
    try:
        await exporter.run(stopping)
    except Exception as error:
        # A fault of the exporter must not take the engine with it. Nothing is lost: what ends waits in the store.
        logger.exception("the export has ended by a fault of its own; restart the node once it is mended")
        exporter.ended_by(error)


class ExportCollector(Collector):
    """The figures of an exporter, read when somebody asks."""

    def __init__(self, figures: Callable[[], ExportFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All families."""
        now = self._figures()
        for name, text, value in (
            ("holdfast_export_jobs", "Jobs that were exported since the start.", float(now.jobs)),
            ("holdfast_export_failures", "Batches that the history did not take.", float(now.failures)),
            ("holdfast_export_dropped", "Jobs that retention purged before they were exported.", float(now.dropped)),
        ):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, value in (
            ("holdfast_export_waiting", "Changes that wait to be exported.", float(now.waiting)),
            ("holdfast_export_lag_seconds", "Seconds since the oldest change that waits; 0 when none does.", now.lag),
            ("holdfast_export_rate", "Jobs a second of the last batch.", now.rate),
            ("holdfast_export_up", "1 while the history takes batches, 0 while it does not.", float(not now.problem)),
        ):
            yield GaugeMetricFamily(name, text, value=value)
