"""A runner as the worker runs it: a row and a handle in, an ending out."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from holdfast.durations import seconds
from holdfast.errors import BadColumns, ConfigError, ContentError, UsageError
from holdfast.job.commands import Canceled, Snoozed, Succeeded
from holdfast.job.content import ERROR_MAX, clean_text, safe_str
from holdfast.job.ids import shown
from holdfast.job.outcome import Cancel, Done, Fail, Snooze
from holdfast.table.endings import failure
from holdfast.table.handle import Handle
from holdfast.table.update import ColumnUpdate, columns_of
from holdfast.worker.program import Executor, ProcessCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.job.commands import Claim, Ending
    from holdfast.table.table import TaskTable
    from holdfast.worker.context import Context

M = TypeVar("M")

#: Mistakes of the runner's author, which the next attempt would only repeat.
_FINAL_ERRORS: Final = (UsageError, ContentError)


class _Report:
    """What a runner has left behind when it returned."""

    __slots__ = ("handle", "row", "value")

    def __init__(self, row: Any, handle: Handle, value: object) -> None:
        self.row, self.handle, self.value = row, handle, value


class TableProgram(Generic[M]):
    """Runs the rows of one table; it is all the programs that the table's worker has."""

    def __init__(self, table: TaskTable[M], runner: Any, *, timeout: float | None, cancel_grace: float) -> None:
        """runner: `(row, handle)`, async or not, or an object with such a `run`. Raises ConfigError for another shape."""
        self._table, self._shape = table, table.shape
        self._runner = checked_runner(runner)
        self._timeout, self.cancel_grace = timeout, cancel_grace
        self.executor = Executor.ASYNC if _is_async(self._runner) else Executor.THREAD

    # --- programs --------------------------------------------------------------------------------------------------

    def get(self, task: str) -> TableProgram[M] | None:
        """Return this one for its own table."""
        return self if task == self._shape.name else None

    def aliases(self) -> Iterable[str]:
        """The one table."""
        return (self._shape.name,)

    # --- program ---------------------------------------------------------------------------------------------------

    def time_limit(self, claim: Claim[M]) -> float | None:
        """Seconds that one attempt may take."""
        return self._timeout

    def bind(self, claim: Claim[M], ctx: Context) -> Callable[[], Any]:
        """Return the call of the runner."""
        row, runner = claim.item, self._runner
        handle = Handle(self._shape, ctx, retryable=self._table.retries_errors)

        async def call() -> _Report:
            return _Report(row, handle, await runner(row, handle))

        def call_plain() -> _Report:
            return _Report(row, handle, runner(row, handle))

        return call if self.executor is Executor.ASYNC else call_plain

    def process_call(self, claim: Claim[M]) -> ProcessCall:
        """Rows are objects of this process: they are not sent to children."""
        raise UsageError(
            "a task table's runner runs in the loop or in a thread; start more processes for more of them."
        )

    def ending(self, value: object) -> Ending:
        """Turn what the runner reported or returned into an ending. Never raises."""
        try:
            if not isinstance(value, _Report):
                return self._ending_of(value)
            ending = self._ending_of(value.value) if value.value is not None else value.handle.reported or Succeeded()
            return self._checked(value.row, ending)
        except Exception as error:  # noqa: BLE001 - a user's value may raise anything while it is looked at
            return failure(error, retryable=False)

    def failed(self, error: BaseException) -> Ending:
        """Turn what the runner raised into an ending. Never raises."""
        return failure(error, retryable=self._table.retries_errors and not isinstance(error, _FINAL_ERRORS))

    def _checked(self, row: Any, ending: Ending) -> Ending:
        """Refuse to lose what was set on the instance and not reported: it would look stored and is not."""
        if not isinstance(ending, Succeeded | Snoozed | Canceled):
            return ending
        names = self._shape.unreported(row, columns_of(ending.update))
        if not names:
            return ending
        shown_names = ", ".join(names)
        example = ", ".join(f"{name}=row.{name}" for name in names[:2])
        raise BadColumns(
            names,
            f"set on the instance and not reported: {shown_names}. The instance is a detached copy, so nothing of this is "
            f"stored: report it, handle.done({example}).",
        )

    def _ending_of(self, value: object) -> Ending:
        if value is None:
            return Succeeded()
        if isinstance(value, Done):
            if value.result is not None:
                raise _no_place(value.result)
            return Succeeded(update=self._update(value.update))
        if isinstance(value, Snooze):
            reason = clean_text(value.reason, ERROR_MAX)
            return Snoozed(seconds(value.delay, "snooze delay"), self._update(value.update), reason)
        if isinstance(value, Cancel):
            return Canceled(clean_text(value.reason, ERROR_MAX), self._update(value.update))
        if isinstance(value, Fail):
            return failure(safe_str(value.reason), retryable=False, update=self._update(value.update))
        raise _no_place(value)

    def _update(self, update: Any) -> ColumnUpdate | None:
        return ColumnUpdate(self._shape.check_update(update)) if update else None


def _no_place(value: object) -> UsageError:
    return UsageError(
        f"expected the runner to return nothing or an outcome, found {shown(value)}: a row has no place for a result. "
        "Report it as a column, handle.done(receipt=value)."
    )


def checked_runner(runner: Any) -> Callable[[Any, Handle], Any]:
    """Return the call of a runner. Raises ConfigError for what can not be called with a row and a handle."""
    call = runner if callable(runner) and not isinstance(runner, type) else getattr(runner, "run", None)
    if isinstance(runner, type) or not callable(call):
        raise ConfigError(
            f"runner: expected a function (row, handle), or an object with such a `run`, found {shown(runner)}."
        )
    inner = inspect.unwrap(call)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ConfigError("runner: expected a function that returns, found a generator: calling it would run nothing.")
    try:
        inspect.signature(call).bind(None, None)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"runner: expected a function of two arguments (row, handle), found {shown(call)}: {error}. "
            "Write `async def charge(order, handle): …`."
        ) from None
    found: Callable[[Any, Handle], Any] = call
    return found


def _is_async(runner: Any) -> bool:
    inner = inspect.unwrap(runner)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)
