"""The pure ledger as a plain model: what a store should answer, and what it should hold, after the same calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from holdfast.errors import HoldfastError
from holdfast.job import commands as c
from holdfast.job.ledger import Ledger, canonical, execute, validate
from holdfast.job.model import OperationState
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from holdfast.job.facts import Fact
    from holdfast.job.model import Attempt, Job

_WAITING = (State.QUEUED, State.SCHEDULED, State.RETRYING)


class ToldDraw:
    """Chance that says what it was told: ids come from the store under test, jitter is a half."""

    def __init__(self) -> None:
        """Begin with no ids."""
        self.ids: list[str] = []
        self._own = 0

    def unit(self) -> float:
        """Half of the way."""
        return 0.5

    def job_id(self, now: float) -> str:
        """The next id that was told; when none is left, one of its own."""
        if self.ids:
            return self.ids.pop(0)
        self._own += 1
        return f"model-{self._own}"


class LedgerModel:
    """A ledger that is driven beside a store, one command at a time, and keeps its facts."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Open a ledger; `now` is the clock that steers the store too."""
        self.ledger = Ledger()
        self.draw = ToldDraw()
        self.facts: list[Fact] = []
        self._now = now
        self.do(c.Open(alone=True))

    def do(self, command: object) -> Any:
        """Execute a command; return its answer, or the class of the error that it raised."""
        try:
            facts, answer = execute(self.ledger, command, self._now(), self.draw)
        except HoldfastError as error:
            return type(error)
        self.facts += facts
        return answer

    def control(self, order: c.Order) -> Any:
        """Do an order to its end."""
        answer = self.do(order)
        while (
            isinstance(answer, c.Ordered)
            and answer.operation is not None
            and answer.operation.state is OperationState.RUNNING
        ):
            answer = self.do(c.ContinueOperation(id=answer.operation.id))
        return answer

    def change_definition(self, change: c.ChangeDefinition) -> Any:
        """Change a definition, and hold or resume its waiting jobs."""
        before = self.ledger.definitions[change.alias].runs
        after = self.do(change)
        if isinstance(after, type):  # refused: nothing was changed
            return after
        if before and not after.runs:
            which = c.JobFilter(task=after.alias, states=_WAITING)
            self.control(c.Order(action=c.Pause(), selection=c.Selection(filter=which), who="task"))
        elif after.runs and not before:
            which = c.JobFilter(task=after.alias, states=(State.PAUSED,), paused_by="task")
            self.control(c.Order(action=c.Resume(), selection=c.Selection(filter=which), who="task"))
        return after

    def check(self) -> None:
        """Raise AssertionError if the ledger contradicts itself, or differs from a replay of its own facts."""
        assert validate(self.ledger) == []

    def check_replay(self) -> None:
        """Raise AssertionError if a replay of all facts ends elsewhere."""
        again = Ledger()
        again.replay(self.facts)
        assert canonical(again) == canonical(self.ledger)
        assert validate(again) == []


#: What one store may number differently from another.
_JOB_OWN = ("seq", "token", "past", "last")


def shown(job: Job) -> Mapping[str, Any]:
    """Return what two stores must agree on about a job."""
    fields = {name: getattr(job, name) for name in job.__struct_fields__ if name not in _JOB_OWN}
    return {**fields, "attempts": [_shown_attempt(attempt) for attempt in job.attempts]}


def _shown_attempt(attempt: Attempt) -> Attempt:
    return replace(attempt, token=0, report=0)


def shown_jobs(jobs: Iterable[Job]) -> dict[str, Mapping[str, Any]]:
    """Return all jobs by id, in order of acceptance."""
    return {job.id: shown(job) for job in jobs}


async def caught(call: Coroutine[Any, Any, Any]) -> Any:
    """Return the answer of a call, or the class of the error that it raised."""
    try:
        return await call
    except HoldfastError as error:
        return type(error)
