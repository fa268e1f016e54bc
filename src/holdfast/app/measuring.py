"""What is told of a worker's process: its log, and its metrics on a port of their own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from holdfast.connect import make_metrics_port
from holdfast.telemetry.events import WorkerLog
from holdfast.telemetry.front_door import FrontDoor
from holdfast.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from holdfast.app.holdfast import Holdfast
    from holdfast.app.session import Session
    from holdfast.worker.hooks import Observer
    from holdfast.worker.options import WorkerOptions


@asynccontextmanager
async def measured(app: Holdfast, session: Session, options: WorkerOptions) -> AsyncIterator[Sequence[Observer]]:
    """Count what this process does while the body runs, and serve it; give what listens to the worker.

    Without a port nothing is counted. A port in use is warned of, and all else goes on. Raises MissingExtra.
    """
    if not options.metrics_port:
        yield (WorkerLog(),)
        return
    metrics = Metrics()
    if app.stickies.services:
        metrics.registry.register(app.stickies.collector())
    before = session.store
    session.store = FrontDoor(before, [metrics], clock=app.clock)
    port = make_metrics_port(
        lambda: metrics.scrape(before),
        port=options.metrics_port,
        host=options.metrics_host,
        hosts=options.metrics_hosts,
    )
    try:
        async with port:
            yield (metrics.worker, WorkerLog())
    finally:
        session.store = before
