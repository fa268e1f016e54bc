"""Dispatch: what it costs to enqueue, claim, run and settle a no-op async job, beside a bare asyncio task."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.report import Figure, show
from holdfast import Holdfast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

JOBS = 200_000
BATCH = 1_000
ROUNDS = 5
_LOOK_EVERY = 0.01  # seconds between looks at whether all is done


class Taken(NamedTuple):
    """One run: jobs per second over all, and CPU µs per job of the worker and of the enqueue."""

    rate: float
    work_cpu: float
    enqueue_cpu: float


async def bare() -> float:
    """Bare tasks per second, made and run in batches."""

    async def nothing() -> None:
        pass

    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    for _ in range(0, JOBS, BATCH):
        tasks = [loop.create_task(nothing()) for _ in range(BATCH)]
        await asyncio.sleep(0)
        del tasks
    return JOBS / (time.perf_counter() - begin)


async def ours() -> Taken:
    """The same number of jobs through the public API, with the default options, until the last one is settled."""
    app, run = Holdfast("memory:"), 0

    @app.task("nothing")
    async def nothing() -> None:
        nonlocal run
        run += 1  # looking at the store each time would cost more than the job

    begin, begin_cpu = time.perf_counter(), time.process_time()
    for _ in range(0, JOBS, BATCH):
        await nothing.enqueue_many([()] * BATCH)
    middle_cpu = time.process_time()
    async with app.worker():
        while run < JOBS or await _unfinished(app):  # noqa: ASYNC110 - the store has no event for "all of them"
            await asyncio.sleep(_LOOK_EVERY)
        end, end_cpu = time.perf_counter(), time.process_time()
    await app.close()
    return Taken(JOBS / (end - begin), (end_cpu - middle_cpu) / JOBS * 1e6, (middle_cpu - begin_cpu) / JOBS * 1e6)


async def _unfinished(app: Holdfast) -> int:
    # Retention removes finished jobs while the worker works, so those that are left tell how far it is.
    counts = (await app.jobs.stats()).queues["default"]
    return counts["queued"] + counts["running"]


def measured(name: str, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> list[Figure]:
    """Run both in turn on one kind of loop, and compare the medians."""
    anchors: list[float] = []
    takes: list[Taken] = []
    for _ in range(ROUNDS):
        anchors.append(run(bare()))
        takes.append(run(ours()))
    anchor = statistics.median(anchors)
    rate = statistics.median(taken.rate for taken in takes)
    work = statistics.median(taken.work_cpu for taken in takes)
    enqueue = statistics.median(taken.enqueue_cpu for taken in takes)
    return [
        Figure(f"{name}: jobs / bare tasks", rate / anchor, 0.15, 0.25, f"{rate:,.0f} / {anchor:,.0f} per second"),
        Figure(
            f"{name}: CPU µs of the worker per job",
            work,
            20,
            12,
            f"and {enqueue:.1f} to enqueue it",
            less_is_better=True,
        ),
    ]


def main() -> int:
    """Measure on asyncio's own loop, and on uvloop where it is installed."""
    figures = measured("asyncio", asyncio.run)
    try:
        import uvloop
    except ModuleNotFoundError:
        return show("dispatch on the memory store", figures)

    def on_uvloop(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)

    shown = measured("uvloop", on_uvloop)
    # The promise speaks of asyncio's own loop; uvloop makes bare tasks faster, and jobs less so.
    figures += [figure._replace(only_shown=True) for figure in shown]
    return show("dispatch on the memory store", figures)


if __name__ == "__main__":
    sys.exit(main())
