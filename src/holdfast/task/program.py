"""A task as the worker runs it: arguments in, an ending out. None of the endings here can fail to be made."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.durations import seconds
from holdfast.errors import BadArguments, ContentError, UsageError
from holdfast.job.commands import Canceled, ErrorInfo, Failed, Snoozed, Succeeded
from holdfast.job.content import ERROR_MAX, clean_text, encode_data, encode_result, safe_str
from holdfast.job.outcome import Cancel, Done, Fail, Snooze
from holdfast.worker.program import Executor, ProcessCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdfast.job.commands import Claim, Ending
    from holdfast.job.model import Job
    from holdfast.task.registry import Registry
    from holdfast.task.task import Task
    from holdfast.worker.context import Context

#: Errors that the next attempt would only repeat.
_FINAL_ERRORS: Final = (BadArguments, UsageError)
_FRAMES_MAX: Final = 60
_SUCCEEDED: Final = Succeeded()


class TaskProgram:
    """Runs the attempts of one task."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self._policy = task.policy
        self._bind = task.arguments.bind
        self.executor = Executor(task.policy.executor)
        self.cancel_grace = task.policy.cancel_grace

    def time_limit(self, claim: Claim[Job]) -> float | None:
        """Seconds this attempt may take: the job's own, or the task's."""
        limit = claim.item.timeout
        return self._policy.timeout if limit is None else limit

    def bind(self, claim: Claim[Job], ctx: Context) -> Callable[[], Any]:
        """Return the call of the handler, ready to make. Raises BadArguments when the payload does not fit."""
        return self._bind(claim.item.payload, ctx)

    def process_call(self, claim: Claim[Job]) -> ProcessCall:
        """Return what a child process needs. Raises UsageError when it could not find the task."""
        return ProcessCall(
            app=self._task.host.import_name(self._task),
            task=claim.task,
            job=msgspec.msgpack.encode(claim.item),
            token=claim.token,
            attempt=claim.attempt,
        )

    def ending(self, value: object) -> Ending:
        """Turn what the handler returned into an ending. Never raises."""
        if value is None:
            return _SUCCEEDED
        try:
            return _ending_of(value)
        except ContentError as error:
            # The work was done: doing it again would end the same way.
            return Failed(_info(error), retryable=False)
        except Exception as error:  # noqa: BLE001 - a user's value may raise anything while it is looked at
            return Failed(_info(error), retryable=False)

    def failed(self, error: BaseException) -> Ending:
        """Turn what the handler raised into an ending. Never raises."""
        policy = self._policy
        retryable = (
            isinstance(error, policy.retry_on)
            and not isinstance(error, policy.no_retry_on)
            and not isinstance(error, _FINAL_ERRORS)
        )
        return Failed(_info(error, _traceback_of(error)), retryable=retryable)


class TaskPrograms:
    """The programs of all tasks of an app. A task that is defined later is found too."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[str, TaskProgram] = {}

    def get(self, task: str) -> TaskProgram | None:
        """Return the program of a task, or None."""
        made = self._made.get(task)
        if made is None:
            found = self._registry.get(task)
            if found is None:
                return None
            made = self._made[task] = TaskProgram(found)
        return made

    def aliases(self) -> Iterable[str]:
        """Tasks that can be run."""
        return self._registry.aliases()


def _ending_of(value: object) -> Ending:
    if isinstance(value, Done) or value is Done:
        done = value if isinstance(value, Done) else Done()
        result = None if done.result is None else encode_result(done.result)
        return Succeeded(result, _update(done.update))
    if isinstance(value, Snooze):
        return Snoozed(seconds(value.delay, "snooze delay"), _update(value.update), clean_text(value.reason, ERROR_MAX))
    if isinstance(value, Cancel) or value is Cancel:
        cancel = value if isinstance(value, Cancel) else Cancel()
        return Canceled(clean_text(cancel.reason, ERROR_MAX), _update(cancel.update))
    if isinstance(value, Fail):
        info = ErrorInfo("Fail", clean_text(safe_str(value.reason), ERROR_MAX))
        return Failed(info, retryable=False, update=_update(value.update))
    if value is Snooze or value is Fail:
        raise ContentError('expected snooze(delay) or fail(reason), found the bare class. Return snooze("5m"), say.')
    return Succeeded(encode_result(value))


def _update(update: Mapping[str, Any] | None) -> bytes | None:
    if update is not None and not hasattr(update, "keys"):
        raise ContentError(f"update: expected a dict to merge into the job's data, found {update!r:.80}.")
    return None if update is None else encode_data(dict(update))


def _info(error: BaseException, trace: str = "") -> ErrorInfo:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return ErrorInfo(name, clean_text(safe_str(error), ERROR_MAX), trace)


def _traceback_of(error: BaseException) -> str:
    """Return the traceback as text, without our own frames above the handler's, cleaned and cut."""
    try:
        shown = traceback.TracebackException(
            type(error), error, _own_frames_cut(error), limit=-_FRAMES_MAX, compact=True
        )
        return clean_text("".join(shown.format()), ERROR_MAX)
    except Exception as fault:  # noqa: BLE001 - an exception of a user's may break while it is shown
        return f"[the traceback can not be shown: {type(fault).__name__}]"


def _own_frames_cut(error: BaseException) -> Any:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("holdfast."):
        trace = trace.tb_next
    return trace if trace is not None else error.__traceback__
