"""The program of a child process: `python -m holdfast.worker.process.child FD PARENT`. Runs one job at a time.

The main thread runs handlers, so that signals, forks and code that insists on the main thread work as anywhere. A second
thread reads the socket: it passes jobs on, cancels the running one, and when the parent is gone ends this process with
all that it started.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sys
import traceback
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import BadAppModule, UnknownTask
from holdfast.job.commands import Claim, ErrorInfo, Failed
from holdfast.job.content import ERROR_MAX, clean_text, safe_str
from holdfast.job.model import Job
from holdfast.worker.context import Context, enter
from holdfast.worker.process import death
from holdfast.worker.process.attempt import stopped_ending
from holdfast.worker.process.frames import (
    BrokenFrame,
    Cancel,
    Load,
    Loaded,
    Log,
    Progress,
    Result,
    Start,
    Stop,
    ToChild,
)
from holdfast.worker.process.home import Lifespan, find
from holdfast.worker.process.line import ParentLine
from holdfast.worker.process.running import Running

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from holdfast.worker.context import Line
    from holdfast.worker.program import Program, Programs


def main(arguments: list[str]) -> None:
    """Serve the parent until it says stop. `arguments`: the socket's descriptor, the parent's process id."""
    descriptor, parent = int(arguments[0]), int(arguments[1])
    death.end_with_parent(parent, death.ORPHAN_ENDS_AT_ONCE)
    inbox = Inbox()
    line: ParentLine[ToChild] = ParentLine(descriptor, ToChild, inbox.take, death.end_group)
    with asyncio.Runner() as runner:
        Child(line, inbox, runner).serve()


class Inbox:
    """What the parent wants done. Jobs wait for the main thread; a cancel takes effect at once, in the reading thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Load | Running | None] = SimpleQueue()
        self._newest: Running | None = None

    def next(self) -> Load | Running | None:
        """Wait for what is to do next; None: nothing more."""
        return self._queue.get()

    def take(self, message: ToChild) -> None:
        """Take a message of the parent."""
        match message:
            case Start():
                self._newest = Running(message)
                self._queue.put(self._newest)
            case Cancel():
                # Sent while its job ran; it comes before the start of the next one, so it can not hit that.
                if self._newest is not None:
                    self._newest.cancel(message.reason)
            case Load():
                self._queue.put(message)
            case Stop():
                self._queue.put(None)


class Child:
    """Imports the app and runs its programs. It is the host of their contexts."""

    state: Any = None
    programs: Programs[Any]

    def __init__(self, line: ParentLine[ToChild], inbox: Inbox, runner: asyncio.Runner) -> None:
        self._line = line
        self._inbox = inbox
        self._runner = runner
        self._clock = SystemClock()
        self._lifespan: Lifespan | None = None
        self.now = self._clock.now
        self.monotonic = self._clock.monotonic

    def serve(self) -> None:
        """Do what the parent says until it says stop."""
        while (work := self._inbox.next()) is not None:
            if isinstance(work, Load):
                self._send(self._load(work))
            else:
                self._answer(self._run(work))
        if self._lifespan is not None:
            self._runner.run(self._lifespan.leave())

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Tell the parent what a handler reports."""
        self._send(Progress(value, update) if line is None else Log(line))

    def _send(self, message: object) -> None:
        if not self._line.send(message):
            # A fork has come back from the handler that only its original may answer for. (Or the parent is gone, and
            # the reading thread is about to end us.)
            os._exit(1)

    # --- the app ---------------------------------------------------------------------------------------------------

    def _load(self, load: Load) -> Loaded:
        sys.path[:] = load.path
        try:
            app = find(load.app)
            lifespan = Lifespan(app)
            self.state = self._runner.run(lifespan.enter())
        except BaseException as error:  # noqa: BLE001 - whatever the user's module does at import, the parent is told why
            text = safe_str(error) if isinstance(error, BadAppModule) else f"{type(error).__name__}: {safe_str(error)}"
            return Loaded(clean_text(text, ERROR_MAX), clean_text(traceback.format_exc(), ERROR_MAX))
        self.programs, self._lifespan = app.programs, lifespan
        return Loaded()

    # --- a job -----------------------------------------------------------------------------------------------------

    def _run(self, running: Running) -> Result:
        call = running.start.call
        program = self.programs.get(call.task)
        if program is None:
            unknown = UnknownTask(call.task, tuple(self.programs.aliases()))
            return Result(Failed(ErrorInfo("UnknownTask", f"in the child process: {unknown}")))
        try:
            claim = _claim(running.start)
            ctx = self._context(running, claim)
            # A copy for each job: what it sets in context variables must not be seen by the next one.
            value = contextvars.copy_context().run(self._call, program.bind(claim, ctx), ctx, running)
            return Result(program.ending(value), _resident_bytes())
        except BaseException as raised:  # noqa: BLE001 - SystemExit and the rest fail the attempt, never the child
            return self._raised(running, program, raised.error if isinstance(raised, _Carried) else raised)

    def _raised(self, running: Running, program: Program[Any], error: BaseException) -> Result:
        reason = running.reason
        if reason is not None and isinstance(error, asyncio.CancelledError):
            ending = stopped_ending(reason, f"stopped when it was cancelled ({reason})")
        else:
            ending = program.failed(error)
        return Result(ending, _resident_bytes(), worn=isinstance(error, MemoryError), stopped=reason is not None)

    def _context(self, running: Running, claim: Claim[Job]) -> Context:
        limit = running.start.time_limit
        deadline = None if limit is None else self.monotonic() + limit
        ctx = Context(claim, self, _deadline=deadline)
        running.begin(ctx)
        return ctx

    def _call(self, call: Any, ctx: Context, running: Running) -> object:
        enter(ctx)
        ctx.check()
        value = call()
        if not inspect.isawaitable(value):
            return value
        return self._runner.run(_finish(value, running), context=contextvars.copy_context())

    def _answer(self, result: Result) -> None:
        try:
            self._send(result)
        except BrokenFrame as error:
            self._send(Result(Failed(ErrorInfo("TooLarge", str(error)), retryable=False), result.rss))


async def _finish(work: Awaitable[object], running: Running) -> object:
    running.begin_task()
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        # These would tear down the loop, which the next job needs.
        raise _Carried(error) from error


class _Carried(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__()


def _claim(start: Start) -> Claim[Job]:
    job = msgspec.msgpack.decode(start.call.job, type=Job)
    call = start.call
    return Claim(job, job.id, call.task, job.queue, call.token, call.attempt, 0.0, job.seq, job.suspect)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        # The most it ever held: the next best where there is no /proc. Kibibytes, but bytes on macOS.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
