"""Damaged rows are set apart: a claim that met one ends it as failed, so that a person sees it and no worker waits for it.

What a claim takes it takes by statements that look into no encoded column. So a row that can not be read is found when it was
claimed already; it then ends like an attempt that failed for good, by the ledger's rules, with what stood in the row as the
text of the error. All others of the same claim go to the worker. Until that is written the job is claimed, and whoever finds
its lease expired finds the same damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.job import commands as c
from holdfast.job.state import State
from holdfast.stores.sql.damage import UNREADABLE
from holdfast.stores.sql.slice import Need, do, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row, Script, Step

T = TypeVar("T")

#: What a claim counts up it also makes a number, so that the row does not tell any more what stood there.
_COUNTED: Final = "attempt or token held no number"
#: The type of the error of such a job.
ERROR: Final = "DamagedRow"


def readable(step: Step, rows: Sequence[Row], number: Callable[[Row], int], make: Callable[[Row], T]) -> list[T]:
    """Return what `make` reads of each row; note the `number` of those that can not be read."""
    try:
        return [make(row) for row in rows]
    except UNREADABLE:
        pass
    found = []
    for row in rows:
        try:
            found.append(make(row))
        except UNREADABLE:
            step.damaged[number(row)] = ""
    return found


def set_apart(step: Step, damaged: dict[int, str]) -> Script[None]:
    """End claimed jobs as failed. damaged: what is wrong with their rows by number; "" where the row tells it."""
    part = yield from load(step, Need(seqs=sorted(damaged), attempts=True))
    found = [(part.loaded[seq], part.damaged.get(seq) or why) for seq, why in damaged.items() if seq in part.loaded]
    held = [(job, why or _COUNTED) for job, why in found if job.state is State.RUNNING]
    endings = tuple(c.Settlement(_claim(job), c.Failed(_error(why), retryable=False)) for job, why in held)
    if endings:
        yield from do(step, part, c.SettleAll(endings))


def _claim(job: Job) -> c.Claim[Any]:
    return c.Claim(job, job.id, job.task, job.queue, job.token, job.attempt, 0.0, job.seq)


def _error(why: str) -> c.ErrorInfo:
    told = (
        f"the row of this job in the database is not as Holdfast writes it: {why}. It was not run. Look at who writes there; "
        "retry or replay the job if what is left of it may run."
    )
    return c.ErrorInfo(ERROR, told)
