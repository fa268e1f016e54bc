"""What a handler is given beside its arguments: a fresh context for every execution.

The same calls work in an async handler, in a thread and in a child process: progress and log lines are handed to the
host, which gathers and writes them with the attempt's token.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec

from holdfast.errors import UsageError
from holdfast.job.content import DATA_MAX, ERROR_MAX, LOG_LINES_MAX, clean_text, encode_data, encode_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from holdfast.job.commands import Claim
    from holdfast.job.model import Job

LEVEL_MAX: Final = 16
PROGRESS_MAX: Final = DATA_MAX

Line = tuple[float, str, str]


class CancelReason(StrEnum):
    """Why a handler is asked to stop."""

    ASKED = "asked"  # by a person
    TIMED_OUT = "timed out"  # past its time limit
    LOST = "lost"  # the claim is over, or may be; whatever comes of the attempt is dropped
    DRAIN = "drain"  # the worker stops; the job is given back


class Host(Protocol):
    """What a context needs from where it runs."""

    @property
    def state(self) -> Any:
        """What the app's lifespan yielded."""
        ...

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Hand a report on. May be called from any thread."""
        ...


class Context(msgspec.Struct, eq=False, dict=False):
    """One execution of a job, as its handler sees it.

    `cancel_reason` says why the handler is asked to stop; None while it is not.
    """

    claim: Claim[Any]
    _host: Host
    cancel_reason: CancelReason | None = None
    trace_id: str = ""
    span_id: str = ""
    _deadline: float | None = None
    _local: Any = None
    _has_local: bool = False
    _epoch: int = 0
    _asked: asyncio.Event | None = None
    _lines: int = 0

    # --- who am I --------------------------------------------------------------------------------------------------

    @property
    def job(self) -> Job:
        """The job as it was claimed (for a user's table: its row)."""
        return cast("Job", self.claim.item)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.claim.id

    @property
    def task(self) -> str:
        """The alias of the job's task."""
        return self.claim.task

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self.claim.queue

    @property
    def token(self) -> int:
        """The fencing token: grows with every claim of the job. Give it to other systems to make effects idempotent."""
        return self.claim.token

    @property
    def attempt(self) -> int:
        """Which claim of the job this is, from 1."""
        return self.claim.attempt

    @property
    def state(self) -> Any:
        """What the app's lifespan yielded."""
        return self._host.state

    @property
    def local(self) -> Any:
        """A dict for this execution alone, for middleware and handler to share.

        Of a job of a sticky service: the state of its key, as the service's state function built it on this pod.
        """
        if not self._has_local:
            self._local, self._has_local = {}, True
        return self._local

    @property
    def epoch(self) -> int:
        """Of a job of a sticky service: the epoch under which this pod has the job's key; it grows with each change of
        owner. Give it to other systems, so that they refuse a former owner. 0: the job is not sticky."""
        return self._epoch

    def give_local(self, local: object, epoch: int) -> None:
        """For the runtime: let `local` and `epoch` be these from now on."""
        self._local, self._has_local, self._epoch = local, True, epoch

    def __repr__(self) -> str:
        """Say which attempt of which job."""
        return f"<Context of job {self.id}, task {self.task}, attempt {self.attempt}>"

    # --- stopping --------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Whether the handler is asked to stop."""
        return self.cancel_reason is not None

    @property
    def time_left(self) -> float | None:
        """Seconds until the time limit, never below zero; None: there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - self._host.monotonic())

    def check(self) -> None:
        """Raise asyncio.CancelledError if the handler is asked to stop. For loops in threads and child processes."""
        if self.cancel_reason is not None:
            raise asyncio.CancelledError(self.cancel_reason.value)

    async def cancel_wait(self) -> CancelReason:
        """Wait until the handler is asked to stop; return why, at once if it was asked already.

        For `async def` handlers, in the loop that runs them, from a task beside the handler: the handler itself is
        cancelled at the same moment, unless it shields what it awaits. It never times out; cancel it when the work is done.
        A `def` handler looks at `ctx.cancelled` or calls `ctx.check()` instead.
        """
        while self.cancel_reason is None:
            if self._asked is None:
                self._asked = asyncio.Event()
            await self._asked.wait()
        return self.cancel_reason

    # --- telling ---------------------------------------------------------------------------------------------------

    def progress(self, value: object, *, update: Mapping[str, Any] | None = None) -> None:
        """Show `value` (anything JSON carries, ≤ 64 KiB) as the attempt's progress; merge `update` into the job's data.

        Returns at once; calls close together are written as one, with the token. When the write is refused, because the
        claim is over, the handler is cancelled. Raises ContentError and TooLarge for what can not be stored.
        """
        data = None if update is None else encode_data(dict(update))
        self._host.report(self, encode_result(value, "progress", PROGRESS_MAX), data, None)

    def settle(self, outcome: object = None, *, tx: object) -> Awaitable[None]:
        """Settle the job in your own transaction: `tx` is your session or connection to the store's database.

        outcome: what the handler would return (a value, done(…), snooze(…) …). With an async handle: await it; else it is
        done when the call returns. Commit before the handler ends; what it returns then counts no more. Raises LeaseLost when
        another worker has the job now: let your transaction roll back. Not for executor="process".
        """
        settle = getattr(self._host, "settle", None)
        if settle is None:
            raise UsageError(
                "ctx.settle: expected a handler in the worker's own process, found none. Return the outcome."
            )
        found: Awaitable[None] = settle(self, outcome, tx)
        return found

    @asynccontextmanager
    async def transaction(self, outcome: object = None) -> AsyncIterator[Any]:
        """Begin a transaction on the store's database; give its connection, as the database's driver has it.

        At the end of the body the job is settled in it (as `outcome`, unless you called ctx.settle yourself), and all is
        committed; an exception rolls all of it back. The connection is one of asyncpg, asyncmy or sqlite3.
        """
        begin = getattr(self._host, "transaction", None)
        if begin is None:
            raise UsageError("ctx.transaction: expected a handler in the worker's own process, found none.")
        async with begin() as tx:
            yield tx
            if getattr(self, "within", None) is None:
                await self.settle(outcome, tx=tx)

    def log(self, text: str, level: str = "info") -> None:
        """Append a line to the attempt's log: text ≤ 64 KiB, at most 1,000 lines; what is over is left out and said."""
        self._lines += 1
        if self._lines > LOG_LINES_MAX:
            return
        if self._lines == LOG_LINES_MAX:
            level, text = "warning", f"more than {LOG_LINES_MAX:,} log lines: the rest is left out"
        line = (self._host.now(), clean_text(str(level), LEVEL_MAX), clean_text(str(text), ERROR_MAX))
        self._host.report(self, b"", None, line)


_current: ContextVar[Context] = ContextVar("holdfast_context")
#: For the runtime: makes a context the current one of the code it runs.
enter: Final = _current.set


def current() -> Context:
    """Return the context of the job that is being run. Raises UsageError outside of a handler."""
    try:
        return _current.get()
    except LookupError:
        raise UsageError(
            "expected to be called by a running handler, found no job here. Call current() within a task, "
            "or pass the context on as an argument."
        ) from None
