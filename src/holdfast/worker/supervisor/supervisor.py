"""The parent of several worker processes."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.clock import Clock, SystemClock
from holdfast.errors import BadAppModule, ConfigError, UsageError
from holdfast.job.commands import InstanceDied
from holdfast.worker.insist import insist
from holdfast.worker.options import PORT_MAX, WorkerOptions
from holdfast.worker.process.spawn import Spawned, spawn
from holdfast.worker.signals import STOPPING
from holdfast.worker.supervisor.exits import ExitCode
from holdfast.worker.supervisor.judge import SILENT_LIMIT
from holdfast.worker.supervisor.life import Death, Life, Pulse
from holdfast.worker.supervisor.messages import Begin, FromWorker, LogForm, StorePlace
from holdfast.worker.supervisor.restarts import deaths_in_a_row, restart_delay
from holdfast.worker.supervisor.stops import END_NOW, Stops
from holdfast.worker.timing import LoopTiming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.store import Source

logger: Final = logging.getLogger("holdfast.supervisor")

#: The program of a worker process. It stands above this room, because it opens an app; so it is named, not imported.
WORKER: Final = "holdfast.app.supervised"
PROCESSES_MAX: Final = 1_000


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """What to supervise.

    app: `module:attribute`, imported by each process. options: of each process's worker. processes: 1 … 1,000.
    silent_limit: seconds without a sign of life, or with a blocked loop, after which a process is killed. store: used by the
    processes instead of the app's own. log: how they log; None leaves it to the app.
    """

    app: str
    processes: int
    options: WorkerOptions = WorkerOptions()
    silent_limit: float = SILENT_LIMIT
    store: StorePlace | None = None
    log: LogForm | None = None
    program: str = WORKER

    def checked(self, source: Source[Any]) -> Supervision:
        """Return this; raise ConfigError that lists every fault, among them a store that one process keeps to itself."""
        faults = []
        if not 1 <= self.processes <= PROCESSES_MAX:
            faults.append(f"processes: expected 1 to {PROCESSES_MAX:,}, found {self.processes!r}.")
        if not self.silent_limit > 0:
            faults.append(f"silent_limit: expected a positive number of seconds, found {self.silent_limit!r}.")
        if not source.capabilities.many_processes:
            faults.append(
                f"store: expected one that many processes may open, found {type(source).__name__}. "
                "Use a database or a hub's address, or run one process."
            )
        last = (self.options.metrics_port or 0) + self.processes - 1
        if self.options.metrics_port and last > PORT_MAX:
            faults.append(
                f"metrics_port: expected room for {self.processes:,} ports up to {PORT_MAX:,}, found {last:,}."
            )
        if faults:
            raise ConfigError("the worker processes can not be started:", faults)
        self.options.checked()
        return self


class Supervisor:
    """Keeps worker processes running: `code = await supervisor.run()`. `source` is open, in this loop.

    Raises ConfigError for what can not be supervised.
    """

    def __init__(self, source: Source[Any], supervision: Supervision, clock: Clock | None = None) -> None:
        self._source, self._clock = source, clock or SystemClock()
        self._plan = supervision.checked(source)
        self._stops = Stops()
        self._lives: set[Spawned[FromWorker]] = set()
        self._unfit = ""
        self._ever_fit = False

    async def run(self) -> ExitCode:
        """Work until stopped, or until every process was drained by the store's word. Cancelling this kills them all.

        Raises BadAppModule when the first processes could not use the app.
        """
        async with asyncio.TaskGroup() as group:
            for place in range(self._plan.processes):
                group.create_task(self._keep(place))
        if self._unfit:
            raise BadAppModule(self._unfit)
        return ExitCode.CUT_OFF if self._stops.step >= END_NOW else ExitCode.DRAINED

    def stop(self) -> None:
        """Go one step further in stopping: drain, then cancel the handlers, then end now. Call it in the loop."""
        self._stops.ask()

    @property
    def pids(self) -> frozenset[int]:
        """The processes that live."""
        return frozenset(process.pid for process in self._lives if process.code is None)

    # --- one place -------------------------------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        """Keep one process running, with pauses that grow while it dies again and again."""
        deaths = 0
        while self._stops.step == 0:
            death = await self._life(place)
            await self._report(death)
            if death.drained or self._stops.step > 0:
                return
            if death.unfit and not self._ever_fit:
                # It never worked, so it is the configuration and no accident: say so instead of trying for ever.
                self._unfit = death.unfit
                self._stops.ask(1)
                return
            deaths = deaths_in_a_row(deaths, death.lived, orderly=death.orderly)
            delay = restart_delay(deaths)
            logger.warning("worker process ended: %s; another starts in %g s", death.unfit or death.detail, delay)
            await self._pause(delay)

    async def _life(self, place: int) -> Death:
        try:
            process: Spawned[FromWorker] = await spawn(self._plan.program, FromWorker)
        except OSError as error:
            return Death(ExitCode.CUT_OFF, f"the machine refuses another process: {error}", 0.0)
        options = self._plan.options
        port = options.metrics_port + place if options.metrics_port else None
        options = msgspec.structs.replace(options, local=False, metrics_port=port)
        process.post(Begin(self._plan.app, tuple(sys.path), options, self._plan.store, self._plan.log))
        pulse = Pulse(self._source, self._clock, options.lease, options.beat_every, self._plan.silent_limit)
        self._lives.add(process)
        try:
            death = await Life(process, pulse, self._stops).live()
        finally:
            self._lives.discard(process)
        self._ever_fit = self._ever_fit or bool(death.instance)
        return death

    async def _report(self, death: Death) -> None:
        """Tell the store of a death that was seen, so that the jobs need not wait for the end of their lease."""
        is_accident = not death.orderly and self._stops.step < END_NOW
        if not (death.instance and is_accident):
            return
        over = self._clock.monotonic() + self._plan.options.lease
        try:
            await insist(
                lambda: self._source.instance_died(InstanceDied(instance=death.instance, detail=death.detail)),
                lambda: over,
                timing=LoopTiming(self._clock),
                monotonic=self._clock.monotonic,
                told=lambda error: logger.warning("the store does not answer, so it can not be told: %s", error),
            )
        except Exception:
            # The rescue finds the jobs when their leases end; the next process must start all the same.
            logger.exception("the store was not told that a worker process died: %s", death.detail)

    async def _pause(self, delay: float) -> None:
        stopped = asyncio.create_task(self._stops.beyond(0))
        try:
            await asyncio.wait((stopped,), timeout=delay)
        finally:
            stopped.cancel()


async def supervise(source: Source[Any], supervision: Supervision, clock: Clock | None = None) -> int:
    """Run a Supervisor that SIGTERM and SIGINT stop, one step further each time; return the exit code.

    That is 0, or 128 + n when a third signal, number n, ended it. For the main thread. Raises ConfigError, BadAppModule;
    UsageError outside of the main thread.
    """
    supervisor = Supervisor(source, supervision, clock)
    last: list[int] = []
    with _stopped_by_signals(supervisor, last):
        code = await supervisor.run()
    return 128 + last[-1] if code is ExitCode.CUT_OFF and last else code


@contextmanager
def _stopped_by_signals(supervisor: Supervisor, seen: list[int]) -> Iterator[None]:
    """Let signals stop `supervisor`; their numbers are added to `seen`.

    Not as a worker takes them: the loop of a parent runs no handlers and so is never blocked, and at the third signal it
    has processes to end before it may leave.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "supervise() takes signals: expected the main thread, found another. Use Supervisor and stop()."
        )
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        seen.append(number)
        supervisor.stop()

    for number in STOPPING:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)
