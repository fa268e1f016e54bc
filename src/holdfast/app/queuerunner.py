"""`app.runner(...)`: queues of this process that are started and stopped one by one, as the queue runners of a task store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.app.preparing import SLOTS, prepared, worker_options
from holdfast.app.schedules import scheduling
from holdfast.errors import UsageError
from holdfast.job.model import DEFAULT_QUEUE
from holdfast.worker import once
from holdfast.worker.once import Pass
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.app.holdfast import Holdfast
    from holdfast.app.preparing import Parts, Queues


class QueueRunner:
    """Runs queues, each by a worker of its own: `start`, `stop`, `is_running`, `run_once`. Used in one event loop.

    queues: name -> how many jobs at once, or "serial"; the default queue, if nothing is said. Options are those of
    WorkerOptions.
    """

    def __init__(self, app: Holdfast, queues: Queues | None = None, **options: Any) -> None:
        """Raises ConfigError that lists every wrong queue and option, UsageError for an option that there is not."""
        self._app = app
        checked = worker_options(app, {DEFAULT_QUEUE: SLOTS} if queues is None else queues, options)
        self._queues: Queues = dict(checked.queues)
        self._options = options
        self._workers: dict[str, Worker[Any]] = {}
        self._running: dict[str, asyncio.Task[int]] = {}
        self._host: asyncio.Task[None] | None = None
        self._parts: asyncio.Future[Parts] | None = None
        self._ending = asyncio.Event()

    # --- all or one ------------------------------------------------------------------------------------------------

    async def start(self, *names: str) -> None:
        """Start these queues, or all; one that runs already is left as it is. Raises UsageError for an unknown name."""
        chosen = self._chosen(names)
        parts = await self._prepare()
        for name in chosen:
            if name not in self._running:
                await self._start(parts, name)

    async def stop(self, *names: str) -> None:
        """Stop these queues, or all, and wait for what runs; one that does not run is left as it is."""
        chosen = [name for name in self._chosen(names) if name in self._running]
        for name in chosen:
            self._workers[name].stop()
        for name in chosen:
            await self._running[name]
            del self._running[name], self._workers[name]
        if not self._running:
            await self._end()

    def is_running(self, name: str | None = None) -> bool:
        """Whether a queue runs, or any of them. Raises UsageError for an unknown name."""
        return bool(self._running) if name is None else self._chosen((name,))[0] in self._running

    async def run_once(self, *names: str) -> Pass:
        """Run what is ready in these queues, or all, until nothing is; return what became of it."""
        queues = {name: self._queues[name] for name in self._chosen(names)}
        async with (
            prepared(self._app, queues, self._options, share=False) as parts,
            scheduling(self._app, parts["source"], once=True),
        ):
            found = passed = await once.work_once(**parts, limit=None)
            # A pass ends at the first empty answer, and the next job of a serial queue is ready when the last has ended.
            while not passed.empty:
                passed = await once.work_once(**parts, limit=None)
                found = Pass(**{name: getattr(found, name) + getattr(passed, name) for name in Pass.__struct_fields__})
            return found

    async def __aenter__(self) -> Self:
        """Start all queues."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all queues."""
        await self.stop()

    def _chosen(self, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in self._queues]
        if unknown:
            known = ", ".join(self._queues)
            raise UsageError(f"runner: unknown queue {unknown[0]!r}. Expected some of {known}.")
        return names or tuple(self._queues)

    # --- the parts -------------------------------------------------------------------------------------------------

    async def _start(self, parts: Parts, name: str) -> None:
        options = msgspec.structs.replace(parts["options"], queues={name: self._queues[name]}, slots=None)
        worker: Worker[Any] = Worker(**{**parts, "options": options.checked()})  # type: ignore[arg-type]
        ready = asyncio.Event()
        self._workers[name] = worker
        self._running[name] = asyncio.create_task(self._work(worker, ready), name=f"holdfast-queue-{name}")
        await ready.wait()
        if self._running[name].done():
            await self._running.pop(name)  # it raises what kept the queue from starting

    async def _work(self, worker: Worker[Any], ready: asyncio.Event) -> int:
        try:
            async with worker:
                ready.set()
                await worker.asked_to_stop()
        finally:
            ready.set()
        return worker.exit_code

    async def _prepare(self) -> Parts:
        """Enter what all queues share, in a task of its own: whoever stops the last queue may be another than who starts."""
        if self._parts is None:
            self._parts = asyncio.get_running_loop().create_future()
            self._ending.clear()
            self._host = asyncio.create_task(self._share(self._parts), name="holdfast-queues")
        return await self._parts

    async def _share(self, given: asyncio.Future[Parts]) -> None:
        try:
            async with (
                prepared(self._app, self._queues, self._options) as parts,
                scheduling(self._app, parts["source"]),
            ):
                given.set_result(parts)
                await self._ending.wait()
        except BaseException as error:
            if given.done():
                raise
            given.set_exception(error)

    async def _end(self) -> None:
        host, self._host, self._parts = self._host, None, None
        if host is not None:
            self._ending.set()
            await host
