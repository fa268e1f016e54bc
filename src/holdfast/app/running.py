"""Running an app's worker: as a program of its own, within another loop, or for one pass."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.app.preparing import SLOTS, loop_factory, prepared, worker_options
from holdfast.app.reaching import reach
from holdfast.app.schedules import scheduling
from holdfast.errors import UsageError
from holdfast.worker import once
from holdfast.worker.options import WorkerOptions
from holdfast.worker.signals import exit_process, install_signals
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from holdfast.app.holdfast import Holdfast
    from holdfast.app.preparing import Queues
    from holdfast.job.model import Job
    from holdfast.worker.once import Pass


def run(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> int:
    """Work until a signal says stop, in a loop of its own; return the exit code."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(app, queues, options))
    raise UsageError("app.run() was called in a running event loop. Use `async with app.worker(queues=…):` there.")


async def _serve(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> int:
    worker_options(app, queues, options)  # what is wrong with them is told before anything is waited for
    try:
        if not await reach(app):
            return 0
        async with prepared(app, queues, options) as parts:
            worker = Worker(**parts)
            async with scheduling(app, parts["source"]):
                with install_signals(worker.stop):
                    code = await worker.run()
    finally:
        await app.close()
    if worker.zombies:
        # Handlers that would not stop keep a loop, and their threads the process, from ending: leave without them.
        exit_process(code)
    return code


def embed(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> AbstractAsyncContextManager[Worker[Job]]:
    """Work while the body runs. What is wrong with the options is raised here, where they were written."""
    worker_options(app, queues, options)
    return _embedded(app, queues, options)


@asynccontextmanager
async def _embedded(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> AsyncIterator[Worker[Job]]:
    async with prepared(app, queues, options) as parts, Worker(**parts) as worker, scheduling(app, parts["source"]):
        yield worker


@asynccontextmanager
async def passes(
    app: Holdfast, queues: Queues | None, options: dict[str, Any]
) -> AsyncIterator[Callable[[int], Awaitable[Pass]]]:
    """Give a function that makes one pass: runs up to so many ready jobs and returns what became of them."""

    async def make(limit: int) -> Pass:
        if type(limit) is not int or limit < 1:
            raise UsageError(f"work_once: expected a limit of 1 or more jobs, found {limit!r}.")
        if queues is None:
            parts["options"] = msgspec.structs.replace(parts["options"], queues=await _all_queues(app))
        async with scheduling(app, parts["source"], once=True):
            return await once.work_once(**parts, limit=limit)

    async with prepared(app, queues, options, share=False) as parts:
        yield make


async def _all_queues(app: Holdfast) -> Queues:
    """Return the queues that the store has or that a task is for."""
    known = [queue.name for queue in await app.queues.list()]
    return dict.fromkeys([*known, *(task.policy.queue for task in app.tasks), *WorkerOptions().queues], SLOTS)
