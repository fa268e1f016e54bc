"""The program of a child process: `python -m holdfast.worker.process.child FD PARENT`. Runs one job at a time.

The main thread runs handlers, so that signals, forks and code that insists on the main thread work as anywhere. A second
thread reads the socket: it passes jobs on, cancels the running one, and when the parent is gone ends this process with
all that it started. The socket is not inherited by programs that a handler starts, and a fork that a handler makes loses
it at once: what such a process says can not be taken for the job's answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import socket
import sys
import threading
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
    Unpacker,
    pack,
)
from holdfast.worker.process.home import Lifespan, find
from holdfast.worker.process.running import Running

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from holdfast.worker.context import Line
    from holdfast.worker.program import Programs


def main(arguments: list[str]) -> None:
    """Serve the parent until it says stop. `arguments`: the socket's descriptor, the parent's process id."""
    descriptor, parent = int(arguments[0]), int(arguments[1])
    death.end_with_parent(parent, death.ORPHAN_ENDS_AT_ONCE)
    line = ParentLine(socket.socket(fileno=descriptor))
    with asyncio.Runner() as runner:
        Child(line, runner).serve()


class ParentLine:
    """The socket to the parent: messages come in through a thread, and go out from any."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._inbox: SimpleQueue[Load | Running | None] = SimpleQueue()
        self._newest: Running | None = None
        sock.set_inheritable(False)
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._read, name="holdfast-parent", daemon=True).start()

    def receive(self) -> Load | Running | None:
        """Return what is to do next; None: nothing more."""
        return self._inbox.get()

    def send(self, message: object) -> None:
        """Send to the parent. Raises BrokenFrame if it is too large; in a fork of this process, ends the fork."""
        frame = pack(message)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError:
            # In a fork the socket is closed: it has come back from the handler that only its original may answer for.
            # In the original it means that the parent is gone, and the reading thread is about to end us.
            os._exit(1)

    def _forget(self) -> None:
        # In a fork; another thread of the original may have held the lock at that moment.
        self._sending = threading.Lock()
        self._socket.close()

    def _read(self) -> None:
        unpacker: Unpacker[ToChild] = Unpacker(ToChild)
        try:
            while (message := unpacker.from_socket(self._socket)) is not None:
                self._take(message)
        finally:
            # Also when the parent sent nonsense: it will get no answers, and must not wait for them.
            death.end_group()

    def _take(self, message: ToChild) -> None:
        match message:
            case Start():
                self._newest = Running(message)
                self._inbox.put(self._newest)
            case Cancel():
                # Sent while its job ran; it comes before the start of the next one, so it can not hit that.
                if self._newest is not None:
                    self._newest.cancel(message.reason)
            case Load():
                self._inbox.put(message)
            case Stop():
                self._inbox.put(None)


class Child:
    """Imports the app and runs its programs. It is the host of their contexts."""

    state: Any = None
    programs: Programs[Any]

    def __init__(self, line: ParentLine, runner: asyncio.Runner) -> None:
        self._line = line
        self._runner = runner
        self._clock = SystemClock()
        self._lifespan: Lifespan | None = None
        self.now = self._clock.now
        self.monotonic = self._clock.monotonic

    def serve(self) -> None:
        """Do what the parent says until it says stop."""
        while (work := self._line.receive()) is not None:
            if isinstance(work, Load):
                self._line.send(self._load(work))
            else:
                self._answer(self._run(work))
        if self._lifespan is not None:
            self._runner.run(self._lifespan.leave())

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Tell the parent what a handler reports."""
        self._line.send(Progress(value, update) if line is None else Log(line))

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
            error = raised.error if isinstance(raised, _Carried) else raised
            worn = isinstance(error, MemoryError)
            return Result(program.failed(error), _resident_bytes(), worn, stopped=running.reason is not None)

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
            self._line.send(result)
        except BrokenFrame as error:
            self._line.send(Result(Failed(ErrorInfo("TooLarge", str(error)), retryable=False), result.rss))


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
