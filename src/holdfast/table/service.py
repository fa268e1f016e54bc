"""`TaskService`: runs a function on the rows of a task table, with the worker that runs jobs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.durations import Duration, seconds
from holdfast.errors import ConfigError, HoldfastError, UsageError
from holdfast.job.ids import shown
from holdfast.job.model import InstanceState
from holdfast.table.leases import OtherLease
from holdfast.table.passing import RowPass, rows_of
from holdfast.table.program import TableProgram
from holdfast.table.table import TaskTable
from holdfast.worker.hooks import Alarm, Hooks, Observer, log_error
from holdfast.worker.once import work_once
from holdfast.worker.options import CLAIM_MAX, WorkerOptions
from holdfast.worker.signals import exit_process, install_signals
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdfast.store import Source
    from holdfast.table.handle import Handle
    from holdfast.worker.context import Context
    from holdfast.worker.heart import Heart
    from holdfast.worker.hooks import CallNext, OnError

M = TypeVar("M")

LIMIT: Final = 100
CONCURRENCY: Final = 20
LEASE: Final = 30.0
INTERVAL: Final = 1.0
GRACE: Final = 30.0
_DEFAULTS: Final = {
    "limit": LIMIT,
    "concurrency": CONCURRENCY,
    "lease": LEASE,
    "interval": INTERVAL,
    "grace": GRACE,
}


class Listening(Protocol):
    """What counts: metrics."""

    @property
    def worker(self) -> Observer:
        """Listens to the worker."""
        ...

    def door(self, source: Source[M], name: str) -> Source[M]:
        """Return the source with ears."""
        ...


class TaskService(Generic[M]):
    """`TaskService(orders, charge)`: charge(order, handle), async or not, is called for each row that is ready.

    timeout: how long an attempt may take. cancel_grace: how long a runner may take to stop. on_error, middleware, observers:
    as for the worker of jobs. metrics: a `holdfast.telemetry.metrics.Metrics`, which then counts rows as it counts jobs.
    worker: the name under which its rows show it. clock: for tests. logger: takes every failed attempt and every error of
    the service, unless on_error does.
    Raises ConfigError for a runner of another shape.
    """

    def __init__(
        self,
        table: TaskTable[M],
        runner: Callable[[M, Handle], Any] | Any,
        *,
        timeout: Duration | None = None,
        cancel_grace: Duration = 5.0,
        on_error: OnError | None = None,
        middleware: Sequence[Callable[[Context, CallNext], Awaitable[object]]] = (),
        observers: Sequence[Observer] = (),
        metrics: Listening | None = None,
        worker: str = "service",
        version: str = "",
        clock: Clock | None = None,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> None:
        if not isinstance(table, TaskTable):
            raise ConfigError(f"service: expected a TaskTable, found {shown(table)}. Write TaskTable(Order, engine).")
        self.table = table
        self._program = TableProgram(
            table,
            runner,
            timeout=None if timeout is None else seconds(timeout, "timeout", positive=True),
            cancel_grace=seconds(cancel_grace, "cancel_grace"),
        )
        self._source: Source[M] = table if metrics is None else metrics.door(table, table.name)
        listeners = (*observers, *([] if metrics is None else [metrics.worker]))
        if on_error is None and logger is not None:
            on_error = _logged_by(logger)
        self._hooks = Hooks(middleware=middleware, on_error=on_error, observers=listeners)
        self._name, self._version, self._clock = worker, version, clock or SystemClock()
        self._worker: Worker[M] | None = None
        self._over: asyncio.Event | None = None
        self._task: asyncio.Task[int] | None = None

    # --- for ever --------------------------------------------------------------------------------------------------

    async def run(
        self,
        *,
        limit: int = LIMIT,
        concurrency: int = CONCURRENCY,
        lease: Duration = LEASE,
        interval: Duration = INTERVAL,
        grace: Duration = GRACE,
    ) -> int:
        """Work until `stop`, or until the caller is cancelled; return the exit code (75: runners would not stop).

        limit: rows claimed at a time at most. concurrency: runners at the same time at most. lease: how long a row is held
        without a beat. interval: the longest sleep when nothing is ready. grace: how long a stop waits for runners.
        Raises ConfigError for options that can not be used, and when another service, here or in a process that holds rows
        now, has another lease; MissingTable with the DDL.
        """
        return await self._run(self._options(limit, concurrency, lease, interval, grace), self._hooks)

    async def _run(self, options: WorkerOptions, hooks: Hooks) -> int:
        if self._worker is not None:
            raise UsageError("the service runs already. Make another one, or stop it first.")
        await self.table.checked()
        self.table.leases.join(self, options.lease)
        self._over = asyncio.Event()
        watch: asyncio.Task[None] | None = None
        try:
            await self.table.check_lease(options.lease)
            tell = self._telling_once()
            watch = asyncio.create_task(self._watch_leases(options.lease, tell), name="holdfast-table-leases")
            self._worker = self.worker(options, hooks=msgspec.structs.replace(hooks, on_error=tell))
            return await self._worker.run()
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.wait([watch])
            self.table.leases.leave(self)
            self._worker = None
            self._over.set()

    async def start(
        self,
        *,
        limit: int = LIMIT,
        concurrency: int = CONCURRENCY,
        lease: Duration = LEASE,
        interval: Duration = INTERVAL,
        grace: Duration = GRACE,
    ) -> None:
        """Begin to work in the background and return when rows are claimed; options as in `run`."""
        if self._task is not None and not self._task.done():
            raise UsageError("the service was started already. Stop it first.")
        options = self._options(limit, concurrency, lease, interval, grace)
        ready = asyncio.Event()
        hooks = msgspec.structs.replace(self._hooks, observers=(*self._hooks.observers, _Ready(ready)))
        self._task = task = asyncio.create_task(self._run(options, hooks), name=f"holdfast-table-{self.table.name}")
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task = None
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            waiting.cancel()
        if task.done():
            # What goes wrong later is told by `stop`; a start that is refused has nothing to stop.
            self._task = None
            task.result()

    async def stop(self) -> None:
        """Drain: claim nothing more, wait for the runners up to `grace`, give back the rest. Twice cancels the runners.

        Returns when the service has ended, and raises what ended it before. Calling it when nothing runs is fine.
        """
        if self._worker is not None:
            self._worker.stop()
        if self._over is not None:
            await self._over.wait()
        task, self._task = self._task, None
        if task is not None:
            await task

    def serve(self, *, processes: int | None = None, name: str = "", **options: Any) -> int:
        """Work in a loop of its own until a signal says stop; return the exit code. For scripts; options as in `run`.

        SIGTERM or SIGINT: once drains, twice cancels the runners, three times exits now. processes: work in so many
        processes under this one, which import the service by `name` ("shop.work:service"); a process that dies is
        replaced, and a row that kills its process is found and fails.
        """
        if processes is None:
            return asyncio.run(self._serve(options))
        from holdfast.table.processes import serve_in_processes

        return asyncio.run(serve_in_processes(self, name, processes, self._options(**{**_DEFAULTS, **options})))

    def worker(self, options: WorkerOptions, heart: Heart | None = None, hooks: Hooks | None = None) -> Worker[M]:
        """Return a worker of this service's rows, not started yet."""
        return Worker(self._source, self._program, options, self._clock, hooks or self._hooks, heart=heart)

    async def _serve(self, options: dict[str, Any]) -> int:
        with install_signals(self._ask):
            code = await self.run(**options)
        if code:
            # Runners that would not stop keep the process from ending: leave without them.
            exit_process(code)
        return code

    def _ask(self) -> None:
        if self._worker is not None:
            self._worker.stop()

    # --- once ------------------------------------------------------------------------------------------------------

    async def do_once(
        self, limit: int = LIMIT, concurrency: int = CONCURRENCY, *, lease: Duration = LEASE, grace: Duration = GRACE
    ) -> RowPass:
        """Make one pass: run up to `limit` ready rows; return what was stored of each: done, failed, snoozed, with ids.

        A row that becomes ready meanwhile is taken too. For cron jobs, scripts and tests.
        """
        options = self._options(limit, concurrency, lease, INTERVAL, grace)
        await self.table.checked()
        one = _Visit()
        self.table.leases.join(one, options.lease)
        try:
            await self.table.check_lease(options.lease)
            found = await work_once(
                self._source, self._program, options, self._clock, self._hooks, limit=limit, concurrency=concurrency
            )
        finally:
            self.table.leases.leave(one)
        return rows_of(found, self.table.shape)

    # --- setting up ------------------------------------------------------------------------------------------------

    def _options(
        self, limit: int, concurrency: int, lease: Duration, interval: Duration, grace: Duration
    ) -> WorkerOptions:
        faults = [
            f"{name}: expected a whole number from 1, found {shown(value)}."
            for name, value in (("limit", limit), ("concurrency", concurrency))
            if not _is_count(value)
        ]
        if faults:
            raise ConfigError("the service's options can not be used:", faults)
        return WorkerOptions(
            queues={self.table.name: min(concurrency, limit)},
            lease=seconds(lease, "lease", positive=True),
            poll=seconds(interval, "interval", positive=True),
            grace=seconds(grace, "grace"),
            buffer=min(CLAIM_MAX, max(0, limit - concurrency)),
            worker=self._name,
            version=self._version,
            local=False,
        ).checked()

    async def _watch_leases(self, lease: float, tell: OnError) -> None:
        """Tell of each other lease that comes up while this service works, also when it claims nothing."""
        alarm = Alarm(tell, asyncio.get_running_loop())
        while True:
            await asyncio.sleep(lease / 3)
            try:
                found = await self.table.other_leases(lease)
            except HoldfastError:
                continue  # the worker itself tells what is wrong with the database
            except Exception as error:  # noqa: BLE001 - told, and the service works on
                alarm(self.table.name, None, error)
                continue
            if found:
                alarm(self.table.name, None, self.table.leases.refusal(lease, list(found)))

    def _telling_once(self) -> OnError:
        """Return an `on_error` that tells of another service's lease once, and not at each look."""
        told: set[str] = set()

        def tell(queue: str, row: Any, error: BaseException) -> Any:
            if isinstance(error, OtherLease):
                if str(error) in told:
                    return None
                told.add(str(error))
            return (self._hooks.on_error or log_error)(queue, row, error)

        return tell


class _Visit:
    """A pass, among the services that have a lease."""


def _logged_by(logger: logging.Logger | logging.LoggerAdapter[Any]) -> OnError:
    def told(queue: str, item: Any, error: BaseException) -> None:
        which = "the service" if item is None else f"a row ({item!r:.200})"
        logger.error("task table %s: %s: %s: %s", queue, which, type(error).__name__, error)

    return told


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class _Ready(Observer):
    """Tells when the worker is ready."""

    def __init__(self, ready: asyncio.Event) -> None:
        self._ready = ready

    def moved(self, state: InstanceState) -> None:
        if state is InstanceState.READY:
            self._ready.set()
