"""What a runner reports with: declarations, of which the last one counts. Nothing is written until the runner returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.durations import Duration, seconds
from holdfast.errors import UsageError
from holdfast.job.commands import Snoozed, Succeeded
from holdfast.job.ids import shown
from holdfast.table.endings import failure
from holdfast.table.update import ColumnUpdate

if TYPE_CHECKING:
    from holdfast.job.commands import Ending
    from holdfast.table.shape import Shape
    from holdfast.worker.context import Context


class Handle:
    """Says what becomes of the row: done, later, or failed. Saying nothing means done.

    Columns are given by attribute name, `handle.done(receipt="r-1")`, and written together with the state. A column whose
    name is taken (`update`) goes into `update={"update": 1}`. Raises BadColumns at once for columns that the model does not
    have, and for those of the framework and of the primary key.
    """

    __slots__ = ("_retryable", "_shape", "ctx", "reported")

    def __init__(self, shape: Shape[Any], ctx: Context, *, retryable: bool) -> None:
        self._shape, self._retryable = shape, retryable
        #: The execution: token, attempt, time left, whether the runner is asked to stop, progress and log.
        self.ctx = ctx
        #: What was said last; None: nothing yet.
        self.reported: Ending | None = None

    def __repr__(self) -> str:
        """Say which row, and what was reported."""
        return f"<Handle of row {self.ctx.id}, attempt {self.ctx.attempt}, reported: {self.reported}>"

    @property
    def token(self) -> int:
        """The fencing token of this execution: give it to other systems to make effects idempotent."""
        return self.ctx.token

    def done(self, *, update: Mapping[str, Any] | None = None, **columns: Any) -> None:
        """The work is done; `columns` are its results."""
        self.reported = Succeeded(update=self._columns(update, columns))

    def pending(self, delay: Duration, /, *, update: Mapping[str, Any] | None = None, **columns: Any) -> None:
        """Run again after `delay`; `columns` are the progress so far. Spends no failure. Raises BadTime."""
        self.reported = Snoozed(seconds(delay, "delay"), self._columns(update, columns))

    def error(self, error: BaseException | str, /, *, update: Mapping[str, Any] | None = None, **columns: Any) -> None:
        """The attempt failed; the row is retried if its table has a policy and it has attempts left."""
        given: object = error
        if not isinstance(given, BaseException | str) or given == "":
            raise UsageError(f"error: expected an exception or a text, found {shown(given)}. Say what went wrong.")
        self.reported = failure(error, retryable=self._retryable, update=self._columns(update, columns))

    def _columns(self, update: Mapping[str, Any] | None, columns: dict[str, Any]) -> ColumnUpdate | None:
        if not update and not columns:
            return None
        return ColumnUpdate(self._shape.check_update({**(update or {}), **columns}))
