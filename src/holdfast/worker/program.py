"""What the worker is given to run: a program per task. The app makes programs from tasks, a task table from its runner.

The worker owns time limits, executors and settling; a program owns arguments, outcomes and which errors may be retried.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.job.commands import Claim, Ending
    from holdfast.worker.context import Context

T = TypeVar("T")


class Executor(StrEnum):
    """Where a handler runs."""

    ASYNC = "async"  # in the worker's loop
    THREAD = "thread"  # in a thread of its own; can be asked to stop, never be killed
    PROCESS = "process"  # in a child process; can be killed


class ProcessCall(msgspec.Struct, frozen=True):
    """What a child process needs to run one attempt: no pickle, only names and bytes.

    app: `module:attribute` that the child imports. payload: the job's encoded arguments.
    """

    app: str
    task: str
    job: bytes  # the encoded Job, for ctx.job
    token: int
    attempt: int


class Program(Protocol[T]):
    """How one task's items are run."""

    @property
    def executor(self) -> Executor:
        """Where the handler runs."""
        ...

    @property
    def cancel_grace(self) -> float:
        """Seconds between cancelling a handler and abandoning it."""
        ...

    def time_limit(self, claim: Claim[T]) -> float | None:
        """Seconds this attempt may take; None: no limit."""
        ...

    def bind(self, claim: Claim[T], ctx: Context) -> Callable[[], Any]:
        """Decode the arguments and return the call, ready to make. An async handler's call returns a coroutine.

        Raises BadArguments when the payload does not fit: the attempt fails and is not retried.
        """
        ...

    def process_call(self, claim: Claim[T]) -> ProcessCall:
        """The same for a child process. Raises UsageError when the task can not be found from its name."""
        ...

    def ending(self, value: object) -> Ending:
        """Turn what the handler returned (a value or an Outcome) into an ending. Never raises: a value that can not be
        encoded ends the attempt as failed, with a message that says so."""
        ...

    def failed(self, error: BaseException) -> Ending:
        """Turn what the handler raised into an ending; says whether it may be retried. Never raises."""
        ...


class Programs(Protocol[T]):
    """All programs that a worker can run."""

    def get(self, task: str) -> Program[T] | None:
        """The program of a task; None when this worker has no handler for it."""
        ...

    def aliases(self) -> Iterable[str]:
        """Tasks that this worker can run."""
        ...
