"""Running an app's worker: as a program of its own, within another loop, or for one pass."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from holdfast.errors import UsageError
from holdfast.job.model import DEFAULT_QUEUE
from holdfast.worker import once
from holdfast.worker.options import WorkerOptions
from holdfast.worker.signals import exit_process, install_signals
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from holdfast.app.holdfast import Holdfast
    from holdfast.clock import Clock
    from holdfast.job.model import Job
    from holdfast.store import Store
    from holdfast.task import TaskPrograms
    from holdfast.worker.hooks import Hooks
    from holdfast.worker.once import Pass
    from holdfast.worker.options import Concurrency

    Queues = Mapping[str, Concurrency]


_SLOTS: Final = WorkerOptions().queues[DEFAULT_QUEUE]


class _Parts(TypedDict):
    """What a worker of an app is made of."""

    source: Store
    programs: TaskPrograms
    options: WorkerOptions
    clock: Clock
    hooks: Hooks
    state: Any


def run(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> int:
    """Work until a signal says stop, in a loop of its own; return the exit code."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=_uvloop()) as runner:
            return runner.run(_serve(app, queues, options))
    raise UsageError("app.run() was called in a running event loop. Use `async with app.worker(queues=…):` there.")


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory of loops, if it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


async def _serve(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> int:
    try:
        async with _prepared(app, queues, options) as parts:
            worker = Worker(**parts)
            with install_signals(worker.stop):
                code = await worker.run()
    finally:
        await app.close()
    if worker.zombies:
        # Handlers that would not stop keep a loop, and their threads the process, from ending: leave without them.
        exit_process(code)
    return code


@asynccontextmanager
async def embed(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> AsyncIterator[Worker[Job]]:
    """Work while the body runs."""
    async with _prepared(app, queues, options) as parts, Worker(**parts) as worker:
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
        return await once.work_once(**parts, limit=limit)

    async with _prepared(app, queues, options) as parts:
        yield make


async def _all_queues(app: Holdfast) -> Queues:
    """Return the queues that the store has or that a task is for."""
    known = [queue.name for queue in await app.queues.list()]
    return dict.fromkeys([*known, *(task.policy.queue for task in app.tasks), *WorkerOptions().queues], _SLOTS)


@asynccontextmanager
async def _prepared(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> AsyncIterator[_Parts]:
    """Open the store, make the tasks known, enter the lifespan; give what a worker is made of."""
    set_up = _worker_options(app, queues, options)
    session = await app.session()
    await session.define(app.tasks)
    async with app.lifespan_context() as state:
        yield _Parts(
            source=session.store,
            programs=app.programs,
            options=set_up,
            clock=app.clock,
            hooks=app.hooks(),
            state=state,
        )


def _worker_options(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> WorkerOptions:
    """Return the checked options. Without `queues` a worker serves the queues of its tasks."""
    unknown = options.keys() - set(WorkerOptions.__struct_fields__)
    if unknown:
        known = ", ".join(WorkerOptions.__struct_fields__)
        raise UsageError(f"worker: unknown option {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}.")
    if queues is None:
        names = dict.fromkeys(task.policy.queue for task in app.tasks)
        queues = dict.fromkeys(names, _SLOTS) or WorkerOptions().queues
    return WorkerOptions(queues=queues, **options).checked()
