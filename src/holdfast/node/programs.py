"""What the node's own settings add to an app's tasks: a time limit and a number of attempts, for those that name none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.job.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.app.holdfast import Holdfast
    from holdfast.job.commands import Claim, Define, Ending
    from holdfast.worker.context import Context
    from holdfast.worker.program import Executor, ProcessCall, Program, Programs


class LimitedProgram:
    """A program whose attempts end after `limit` seconds unless the job or the task says otherwise."""

    def __init__(self, program: Program[Any], limit: float) -> None:
        self._program, self._limit = program, limit

    @property
    def executor(self) -> Executor:
        """Where the handler runs."""
        return self._program.executor

    @property
    def cancel_grace(self) -> float:
        """Seconds between cancelling a handler and abandoning it."""
        return self._program.cancel_grace

    def time_limit(self, claim: Claim[Any]) -> float | None:
        """Seconds this attempt may take."""
        own = self._program.time_limit(claim)
        return self._limit if own is None else own

    def bind(self, claim: Claim[Any], ctx: Context) -> Callable[[], Any]:
        """Decode the arguments and return the call."""
        return self._program.bind(claim, ctx)

    def process_call(self, claim: Claim[Any]) -> ProcessCall:
        """The same for a child process."""
        return self._program.process_call(claim)

    def ending(self, value: object) -> Ending:
        """Turn what the handler returned into an ending."""
        return self._program.ending(value)

    def failed(self, error: BaseException) -> Ending:
        """Turn what the handler raised into an ending."""
        return self._program.failed(error)


class LimitedPrograms:
    """Programs with a time limit for those that have none."""

    def __init__(self, programs: Programs[Any], limit: float) -> None:
        self._programs, self._limit = programs, limit
        self._made: dict[str, LimitedProgram] = {}

    def get(self, task: str) -> Program[Any] | None:
        """The program of a task."""
        made = self._made.get(task)
        if made is None:
            program = self._programs.get(task)
            if program is None:
                return None
            made = self._made[task] = LimitedProgram(program, self._limit)
        return made

    def aliases(self) -> Iterable[str]:
        """Tasks that can be run."""
        return self._programs.aliases()


def limited(programs: Programs[Any], limit: float | None) -> Programs[Any]:
    """Return programs with a time limit, or as they are when there is none."""
    return programs if limit is None else LimitedPrograms(programs, limit)


def definitions(app: Holdfast, max_attempts: int) -> list[Define]:
    """Return the definitions of an app's tasks, those without a retry policy of their own with `max_attempts`."""
    return [_with_attempts(task.definition(), max_attempts) for task in app.tasks]


def _with_attempts(define: Define, max_attempts: int) -> Define:
    if define.retry != RetryPolicy():
        return define
    return msgspec.structs.replace(define, retry=msgspec.structs.replace(define.retry, max_attempts=max_attempts))
