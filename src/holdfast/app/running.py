"""Running an app's worker: as a program of its own, within another loop, or for one pass."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import UsageError
from holdfast.job.commands import Accepted, Released, Snoozed, Succeeded
from holdfast.job.commands import Canceled as CanceledEnding
from holdfast.worker.hooks import Observer
from holdfast.worker.options import WorkerOptions
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from holdfast.app.holdfast import Holdfast
    from holdfast.job.commands import Settled, Settlement
    from holdfast.job.model import Job
    from holdfast.worker.options import Concurrency

    Queues = Mapping[str, Concurrency]


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
        async with open_worker(app, queues, options) as worker:
            with stop_by_signals(worker):
                return await worker.run()
    finally:
        await app.close()


@contextmanager
def stop_by_signals(worker: Worker[Any]) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop `worker`, one step further each time. Only the main thread can take signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def embed(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> AsyncIterator[Worker[Job]]:
    """Work while the body runs."""
    async with open_worker(app, queues, options) as worker, worker:
        yield worker


@asynccontextmanager
async def open_worker(
    app: Holdfast, queues: Queues | None, options: dict[str, Any], **more: Any
) -> AsyncIterator[Worker[Job]]:
    """Open the store, make the tasks known, enter the lifespan, and give a worker that has not begun."""
    set_up = _worker_options(app, queues, options)
    session = await app.session()
    await session.define(app.tasks)
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(app.lifespan_context())
        observers = more.pop("observers", ())
        yield Worker(session.store, app.programs, set_up, app.clock, app.hooks(observers), state=state, **more)


def _worker_options(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> WorkerOptions:
    """Return the checked options. Without `queues` a worker serves the queues of its tasks."""
    unknown = options.keys() - set(WorkerOptions.__struct_fields__)
    if unknown:
        known = ", ".join(WorkerOptions.__struct_fields__)
        raise UsageError(f"worker: unknown option {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}.")
    if queues is None:
        names = dict.fromkeys(task.policy.queue for task in app.tasks)
        queues = dict.fromkeys(names, 10) or WorkerOptions().queues
    return WorkerOptions(queues=queues, **options).checked()


class Pass(msgspec.Struct):
    """What one pass did: ids of jobs by what became of their attempts, as the store took it."""

    done: list[str] = []
    failed: list[str] = []
    snoozed: list[str] = []
    canceled: list[str] = []
    released: list[str] = []
    stale: list[str] = []  # refused: another claim was newer

    @property
    def count(self) -> int:
        """How many attempts ended."""
        return sum(len(getattr(self, name)) for name in self.__struct_fields__)

    def __bool__(self) -> bool:
        """Whether anything ran."""
        return self.count > 0


class _Recorder(Observer):
    def __init__(self) -> None:
        self.seen = Pass()

    def settled(self, settlement: Settlement[Any], answer: Settled) -> None:
        self._list_for(settlement, answer).append(answer.id)

    def _list_for(self, settlement: Settlement[Any], answer: Settled) -> list[str]:
        if answer.accepted is Accepted.STALE:
            return self.seen.stale
        match settlement.ending:
            case Succeeded():
                return self.seen.done
            case Snoozed():
                return self.seen.snoozed
            case CanceledEnding():
                return self.seen.canceled
            case Released():
                return self.seen.released
            case _:
                return self.seen.failed


async def work_once(app: Holdfast, limit: int, queues: Queues | None, options: dict[str, Any]) -> Pass:
    """Run up to `limit` ready jobs and return what became of them."""
    if type(limit) is not int or limit < 1:
        raise UsageError(f"work_once: expected a limit of 1 or more jobs, found {limit!r}.")
    recorder = _Recorder()
    async with open_worker(app, queues, options, limit=limit, once=True, observers=(recorder,)) as worker:
        await worker.run()
    return recorder.seen
