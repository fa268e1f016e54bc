"""A supervised worker process: imports the app, works with a heart in the parent, stops as the parent says.

`holdfast.app.supervised` is the program; it gives `serve` the way to open an app's worker. The parent alone escalates:
SIGTERM and SIGINT here mean no more than its first step, because a service manager or a terminal may send them to parent
and children alike.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from holdfast.clock import SystemClock
from holdfast.errors import ConfigError
from holdfast.worker.process import death
from holdfast.worker.process.line import ParentLine
from holdfast.worker.signals import exit_process
from holdfast.worker.supervisor.exits import ExitCode
from holdfast.worker.supervisor.heart import ParentHeart
from holdfast.worker.supervisor.messages import Beaten, BeatFailed, Begin, StopStep, ToWorker, Unfit

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from holdfast.worker.worker import Worker

    LoopFactory = Callable[[], asyncio.AbstractEventLoop]
    #: Opens the worker that `Begin` tells of; raises ConfigError when app or options can not be used.
    OpenWorker = Callable[[Begin, ParentHeart], AbstractAsyncContextManager[Worker[Any]]]

#: What a process whose parent has died may take to give its jobs back, in seconds.
ORPHAN_LIMIT: Final = 10.0
_CANCEL: Final = 2
_END_NOW: Final = 3


def serve(arguments: list[str], open_worker: OpenWorker, loop_factory: LoopFactory | None = None) -> None:
    """Work until the parent says stop, and exit. `arguments`: the socket's descriptor, the parent's process id.

    loop_factory: makes the event loop; None: asyncio's own.
    """
    descriptor, parent = int(arguments[0]), int(arguments[1])
    death.end_with_parent(parent, death.ORPHAN_ENDS_SOON)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        child = WorkerChild(descriptor, open_worker, runner.get_loop())
        code = runner.run(child.run())
        if child.zombies:
            # Handlers that would not stop keep the loop, and their threads the process, from ending: leave without them.
            exit_process(code)
    sys.exit(code)


class WorkerChild:
    """Joins the line to the parent and the worker."""

    def __init__(self, descriptor: int, open_worker: OpenWorker, loop: asyncio.AbstractEventLoop) -> None:
        self._open_worker, self._loop = open_worker, loop
        self._begin: asyncio.Future[Begin] = loop.create_future()
        self._heart: ParentHeart | None = None
        self._worker: Worker[Any] | None = None
        self._asked = self._done = 0
        self._line: ParentLine[ToWorker] = ParentLine(descriptor, ToWorker, self._take, self._parent_died)

    async def run(self) -> int:
        """Return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, 1)
        begin = await self._begin
        sys.path[:] = begin.path
        self._heart = ParentHeart(
            self._line.send, beat_every=begin.options.beat_every, monotonic=SystemClock().monotonic
        )
        try:
            async with self._open_worker(begin, self._heart) as worker:
                self._worker = worker
                self._stop(0)
                return await worker.run()
        except ConfigError as error:
            self._line.send(Unfit(str(error)))
            return ExitCode.CONFIG

    @property
    def zombies(self) -> int:
        """How many handlers would not stop and still run."""
        return self._worker.zombies if self._worker is not None else 0

    # --- from the reading thread -----------------------------------------------------------------------------------

    def _take(self, message: ToWorker) -> None:
        self._loop.call_soon_threadsafe(self._handle, message)

    def _parent_died(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._orphaned)
            time.sleep(ORPHAN_LIMIT)
        death.end_group()

    # --- in the loop -----------------------------------------------------------------------------------------------

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Begin():
                self._begin.set_result(message)
            case StopStep():
                self._stop(message.step)
            case Beaten() | BeatFailed():
                if self._heart is not None:
                    self._heart.answered(message)

    def _orphaned(self) -> None:
        self._stop(_CANCEL)
        if self._heart is not None:
            self._heart.orphaned()

    def _stop(self, step: int) -> None:
        """Stop at least as far as `step`; before there is a worker, remember it."""
        self._asked = max(self._asked, step)
        if self._asked >= _END_NOW:
            exit_process(ExitCode.CUT_OFF)
        while self._worker is not None and self._done < self._asked:
            self._done += 1
            self._worker.stop()
