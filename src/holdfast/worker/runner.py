"""Running attempts: named steps over one execution.

    accept    a slot, or the buffer
    attempt   decode the arguments, run under the time limit, turn what came of it into an ending
    ended     hand the ending to the outbox, and the slot to the next
    cancel    ask the handler to stop; abandon it when it does not

Every attempt is an asyncio task with its own copy of the context variables, also when its handler runs in a thread or in
a child process. Whatever a handler does (returns, raises anything at all, swallows its cancel, never returns), its job
gets an ending and the worker goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import JobFailed, LeaseLost, UnknownTask
from holdfast.job.commands import Canceled, Crashed, ErrorInfo, Failed, Released, Snoozed, Succeeded, TimedOut
from holdfast.job.content import safe_str
from holdfast.worker.context import CancelReason, enter
from holdfast.worker.endings import STOPPING, after_cancel, without_handler
from holdfast.worker.hooks import tell
from holdfast.worker.program import Executor
from holdfast.worker.within import not_committed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdfast.job.commands import Ending
    from holdfast.worker.deadlines import Deadlines
    from holdfast.worker.execution import Execution
    from holdfast.worker.held import HeldClaims
    from holdfast.worker.hooks import Alarm, Listeners, Middleware
    from holdfast.worker.lanes import Lane, Lanes
    from holdfast.worker.options import WorkerOptions
    from holdfast.worker.outbox import Outbox
    from holdfast.worker.program import Program, Programs
    from holdfast.worker.reports import Reports
    from holdfast.worker.threads import Threads

    InChild = Callable[[Execution, Program[Any], float], Awaitable[Ending]]

_Task: Final = asyncio.Task
_ASYNC: Final = Executor.ASYNC
_PROCESS: Final = Executor.PROCESS
#: A child is killed when its grace is over; only if even that hangs is its attempt abandoned, so many seconds later.
_KILL_TIME: Final = 10.0
_FAILURES: Final = (Failed, TimedOut, Crashed)


class Runner:
    """Runs what is accepted. `on_zombies` is called when abandoned handlers hold too many slots."""

    def __init__(
        self,
        programs: Programs[Any],
        lanes: Lanes,
        held: HeldClaims,
        threads: Threads,
        *,
        options: WorkerOptions,
        middleware: tuple[Middleware, ...],
        in_child: InChild,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        alarm: Alarm,
        listeners: Listeners,
        is_leaving: Callable[[], bool],
        on_zombies: Callable[[], None],
        came_true: Callable[[Execution], Awaitable[bool | None]],
    ) -> None:
        self._get, self._lanes, self._held, self._threads = programs.get, lanes, held, threads
        self._options, self._middleware, self._run_child = options, middleware, in_child
        self._loop, self._monotonic, self._alarm, self._listeners = loop, monotonic, alarm, listeners
        self._started = listeners.started
        self._is_leaving, self._on_zombies, self._came_true = is_leaving, on_zombies, came_true
        self._variables = contextvars.copy_context()
        self.on_change: Callable[[], None] | None = None  # for a drain: something ended, was settled or abandoned
        self.zombies = 0
        self.returned_late = 0
        self.lost = 0

    def join(self, outbox: Outbox, reports: Reports, deadlines: Deadlines) -> None:
        """Take the parts that know the runner themselves."""
        self._add, self._reports, self._deadlines = outbox.add, reports, deadlines

    # --- accept ----------------------------------------------------------------------------------------------------

    def accept(self, claimed: Sequence[Execution]) -> None:
        """Start claimed jobs as far as their lanes have slots, and keep the others in the buffers."""
        for older in self._held.add_all(claimed):
            # The store handed the item out again, to ourselves: the older claim is over.
            self.lose(older)
        take, start = self._lanes.take, self._start
        for e in claimed:
            if take(e.lane):
                start(e)
            else:
                e.lane.buffer.append(e)

    def _start(self, e: Execution) -> None:
        e.program = self._get(e.claim.task)
        if e.program is None:
            self._loop.call_soon(self._no_handler, e)
            return
        if self._started:
            tell(self._started, e)
        # The class itself, because loop.create_task adds a call and no task factory has a say in this.
        e.handler = _Task(self._attempt(e), loop=self._loop, name=e.claim.id, context=self._variables.copy())

    def _no_handler(self, e: Execution) -> None:
        ending = without_handler(e.claim, e.lease(self._options.lease))
        self._alarm(e.queue, e.claim.item if isinstance(ending, Failed) else None, UnknownTask(e.task))
        self._end(e, ending)
        self._next(e.lane)

    # --- attempt ---------------------------------------------------------------------------------------------------

    async def _attempt(self, e: Execution) -> None:
        enter(e)
        program = e.program
        assert program is not None, "started with a program"
        try:
            e.started = self._monotonic()
            limit = program.time_limit(e.claim)
            if limit is not None and program.executor is not _PROCESS:
                self._limit(e, limit)  # the limit of a child process counts from its own start
            reason = e.cancel_reason
            if reason is not None:
                raise asyncio.CancelledError(reason)  # asked before it has begun
            if program.executor is _ASYNC and not self._middleware:
                ending = program.ending(await program.bind(e.claim, e)())
            else:
                value = await self._call(e, program)()
                ending = value if type(value) in _CHILD_ENDINGS else program.ending(value)  # type: ignore[assignment]
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything; see `_raised`
            if e.within is None or not await self._stayed(e, error):
                self._raised(e, error)
        else:
            if e.within is not None:
                if not await self._stayed(e, None):
                    self._ended(e, not_committed(), None)
                return
            if e.cancel_reason is not None and not e.ended:
                ending = self._after_cancel(e, ending)
            self._ended(e, ending, None)

    async def _stayed(self, e: Execution, error: BaseException | None) -> bool:
        """Whether what the handler settled in its own transaction is stored, or nobody knows; then the attempt is over."""
        ending, stayed = e.within, await self._came_true(e)
        e.within = None
        if stayed is False:
            return False
        if stayed is None:
            self.lose(e)  # the store does not answer: the lease ends, and whoever rescues the job sees how it stands
        if error is not None:
            self._alarm(e.queue, e.claim.item, error)  # the work was done and stored; still somebody should know
        assert ending is not None, "asked of what was settled"
        self._ended(e, ending, None)
        return True

    def _limit(self, e: Execution, limit: float) -> None:
        e._deadline = e.started + limit
        self._deadlines.limit(e, e._deadline)

    def _call(self, e: Execution, program: Program[Any]) -> Callable[[], Awaitable[object]]:
        """Return the call of this attempt: where its executor says, with the middleware around it."""
        call: Callable[[], Awaitable[object]]
        if program.executor is Executor.THREAD:
            call = partial(self._in_thread, program.bind(e.claim, e))
        elif program.executor is _PROCESS:
            call = partial(self._in_child, e, program)
        else:
            call = program.bind(e.claim, e)
        for middleware in reversed(self._middleware):
            call = partial(middleware, e, call)
        return call

    async def _in_thread(self, call: Callable[[], Any]) -> object:
        value, error = await self._threads.run(call, contextvars.copy_context())
        if error is not None:
            raise error
        return value

    async def _in_child(self, e: Execution, program: Program[Any]) -> object:
        ending = await self._run_child(e, program, self._grace(e))
        if e.cancel_reason is not None and not isinstance(ending, _DECIDED):
            raise asyncio.CancelledError(e.cancel_reason)  # it stopped because it was told to, or was killed
        return ending

    def _raised(self, e: Execution, error: BaseException) -> None:
        if self._loop.is_closed():
            return  # the coroutine is only being thrown away, long after the worker has gone
        ending: Ending
        if e.ended or e.program is None:
            ending = Released(STOPPING)  # nobody looks at it
        elif e.cancel_reason is not None:
            ending = self._after_cancel(e, None)
        elif isinstance(error, asyncio.CancelledError) and self._is_leaving():
            ending = Released(STOPPING)
        else:
            ending = _failed(e.program, error)
        self._ended(e, ending, error)

    def _after_cancel(self, e: Execution, ending: Ending | None) -> Ending:
        assert e.cancel_reason is not None, "called when a cancel was asked"
        limit = None if e._deadline is None else e._deadline - e.started
        found = after_cancel(e.cancel_reason, ending, limit=limit, grace=self._grace(e))
        assert found is not None, "a lost attempt is ended when it is lost"
        return found

    # --- ended -----------------------------------------------------------------------------------------------------

    def _ended(self, e: Execution, ending: Ending, error: BaseException | None) -> None:
        """The handler is over. The slot goes on at once; that of a serial queue only when the store knows."""
        e.handler = None
        if e._deadline is not None:
            self._deadlines.ended()
        if e.ended:
            self._late(e)
            return
        e.duration = self._monotonic() - e.started
        if self._reports.any:
            self._reports.collect()
        e.ended, e.ending = True, ending
        self._add(e)
        if type(ending) is not Succeeded and isinstance(ending, _FAILURES):
            # Past its limit a handler raises CancelledError, or whatever else; the limit is what went wrong.
            if error is None or isinstance(ending, TimedOut):
                error = _as_error(e, ending)
            self._alarm(e.queue, e.claim.item, error)
        if not e.lane.serial:
            self._next(e.lane)

    def _end(self, e: Execution, ending: Ending) -> None:
        """End an attempt that has no handler, or not any more."""
        if self._reports.any:
            self._reports.collect()
        e.ended, e.ending = True, ending
        self._add(e)

    def _next(self, lane: Lane) -> None:
        following = self._lanes.pass_on(lane)
        if following is not None:
            self._start(following)
        on_room = self._lanes.on_room
        if on_room is not None and len(lane.buffer) < lane.low:
            on_room()

    def settled(self, batch: Sequence[Execution]) -> None:
        """The store has taken these outcomes, or never will: now the slots of serial queues are free."""
        if self._lanes.any_serial:
            for e in batch:
                if e.lane.serial and not e.abandoned and e.handler is None and e.started >= 0:
                    self._next(e.lane)
        if self.on_change is not None:
            self.on_change()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is held, and no handler runs but the abandoned ones."""
        return not len(self._held) and self._lanes.busy <= self.zombies

    def _late(self, e: Execution) -> None:
        if e.abandoned:
            self.zombies -= 1
            self.returned_late += 1
            tell(self._listeners.returned_late, e)
        self._next(e.lane)
        if self.on_change is not None:
            self.on_change()

    # --- cancel ----------------------------------------------------------------------------------------------------

    def cancel(self, e: Execution, reason: CancelReason) -> None:
        """Ask a running handler to stop, because of `reason`; the first reason counts."""
        if e.handler is None or e.cancel_reason is not None:
            return
        self._ask(e, reason)
        if e.handler.done():
            # Its task was cancelled from outside before it began, so nothing in it could say so.
            self._raised(e, asyncio.CancelledError())
            return
        self._give_grace(e)
        self._interrupt(e)

    def _give_grace(self, e: Execution) -> None:
        in_child = e.program is not None and e.program.executor is _PROCESS
        self._deadlines.grace(e, self._monotonic() + self._grace(e) + (_KILL_TIME if in_child else 0.0))

    def _ask(self, e: Execution, reason: CancelReason) -> None:
        e.cancel_reason = reason
        if e._asked is not None:
            e._asked.set()

    def _interrupt(self, e: Execution) -> None:
        # One that has not begun looks at `cancel_reason` first; cancelling its task would end it without a word.
        # Threads look at the context themselves, and so does the pool of child processes.
        has_begun = e.started >= 0
        if has_begun and e.handler is not None and e.program is not None and e.program.executor is _ASYNC:
            e.handler.cancel(e.cancel_reason)

    def _grace(self, e: Execution) -> float:
        given = self._options.cancel_grace
        return given if given is not None else e.program.cancel_grace if e.program is not None else 0.0

    def expired(self, e: Execution) -> None:
        """The attempt is past its time limit."""
        self.cancel(e, CancelReason.TIMED_OUT)

    def lose(self, e: Execution) -> None:
        """The claim is over, or may be: whatever comes of the attempt is dropped."""
        if e.ended or e.within is not None:
            return  # what was settled in the handler's transaction is no more held; whether it stayed is asked at the end
        self.lost += 1
        e.ended = True
        self._held.remove(e)
        tell(self._listeners.lost, e)
        self._alarm(e.queue, e.claim.item, LeaseLost(e.id, e.token))
        if e.handler is None:
            if e in e.lane.buffer:
                e.lane.buffer.remove(e)
            return
        asked_before = e.cancel_reason is not None
        self._ask(e, CancelReason.LOST)
        if not asked_before:
            self._give_grace(e)
            self._interrupt(e)

    def abandon(self, e: Execution) -> None:
        """The handler did not stop within its grace: end its attempt without it. Its slot stays taken."""
        if e.handler is None or e.abandoned:
            return
        e.abandoned = True
        self.zombies += 1
        if not e.ended:
            ending = self._after_cancel(e, None)
            if e.started >= 0:
                e.duration = self._monotonic() - e.started
            self._end(e, ending)
            if isinstance(ending, _FAILURES):
                self._alarm(e.queue, e.claim.item, _as_error(e, ending))
        tell(self._listeners.abandoned, e, e.ending)
        if self.on_change is not None:
            self.on_change()
        if self.zombies > self._lanes.slots * self._options.zombies:
            self._on_zombies()

    # --- give back -------------------------------------------------------------------------------------------------

    def refuse(self, claimed: Sequence[Execution]) -> None:
        """Release jobs that were claimed after the stop."""
        self._held.add_all(claimed)
        for e in claimed:
            self._end(e, Released(STOPPING, counted=False))

    def clear_buffers(self) -> None:
        """Release what is claimed and not started; it costs the jobs nothing."""
        for e in self._lanes.buffered():
            self._end(e, Released(STOPPING, counted=False))


#: A child process says how its attempt ended; there is nothing left to turn into an ending.
_CHILD_ENDINGS: Final = frozenset({Succeeded, Snoozed, Failed, TimedOut, Crashed, Canceled, Released})
#: What a handler decided by returning, so that it stands beside a cancel.
_DECIDED: Final = (Succeeded, Snoozed, Canceled)


def _failed(program: Program[Any], error: BaseException) -> Ending:
    try:
        return program.failed(error)
    except Exception as fault:  # noqa: BLE001 - a program promises not to; the job must get its ending all the same
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return Failed(ErrorInfo(kind, f"{safe_str(error)} (and its program raised: {safe_str(fault)})"))


def _as_error(e: Execution, ending: Ending) -> BaseException:
    """Return an ending without an exception as one, for on_error."""
    if isinstance(ending, TimedOut):
        return TimeoutError(ending.error.text)
    text = ending.error.text if isinstance(ending, _FAILURES) else ""
    return JobFailed(e.id, "failed", text)
