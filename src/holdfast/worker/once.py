"""One pass: claim what is ready, run it, say what was stored. For cron jobs, scripts and tests."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.job.commands import Accepted, Settlement, Snoozed
from holdfast.job.state import State
from holdfast.worker.hooks import Hooks, Observer
from holdfast.worker.options import WorkerOptions
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.job.commands import Settled
    from holdfast.store import Source
    from holdfast.worker.context import Context
    from holdfast.worker.program import Programs
    from holdfast.worker.timing import Timing

T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True):
    """A failed attempt. final: the job has given up; else it is retried after its backoff."""

    id: str
    error: str
    final: bool


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass did to each job, as the store has it. Lists of ids, in the order of settling."""

    done: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    snoozed: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    canceled: tuple[str, ...] = ()
    #: The claim was over before the outcome could be stored, or the store could not be reached: somebody else's job now.
    lost: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many attempts were made, whatever came of them."""
        return sum(len(getattr(self, name)) for name in self.__struct_fields__)

    @property
    def empty(self) -> bool:
        """Whether there was nothing to do: a loop of passes may end."""
        return self.total == 0


class _Tally(Observer):
    """Sorts what was settled."""

    def __init__(self) -> None:
        self.found: dict[str, list[Any]] = {name: [] for name in Pass.__struct_fields__}

    def settled(self, settlement: Settlement[Any], answer: Settled) -> None:
        if answer.accepted is Accepted.STALE:
            self.found["lost"].append(answer.id)
        elif answer.state in (State.FAILED, State.RETRYING):
            info = getattr(settlement.ending, "error", None)
            text = info.text if info is not None else getattr(settlement.ending, "reason", "")
            self.found["failed"].append(Failure(answer.id, text, answer.state is State.FAILED))
        else:
            self.found[_list_of(settlement, answer.state)].append(answer.id)

    def lost(self, ctx: Context) -> None:
        self.found["lost"].append(ctx.id)

    def unsettled(self, ctx: Context, error: Exception) -> None:
        self.found["lost"].append(ctx.id)


def _list_of(settlement: Settlement[Any], state: State | None) -> str:
    if state is State.SUCCEEDED:
        return "done"
    if state is State.CANCELED:
        return "canceled"
    return "snoozed" if isinstance(settlement.ending, Snoozed) else "released"


async def work_once(
    source: Source[T],
    programs: Programs[T],
    options: WorkerOptions | None = None,
    clock: Clock | None = None,
    hooks: Hooks | None = None,
    *,
    limit: int | None = None,
    concurrency: int | None = None,
    state: Any = None,
    timing: Timing | None = None,
    draw: Callable[[], float] = random.random,
) -> Pass:
    """Claim up to `limit` ready jobs, run them, at most `concurrency` at the same time, and return what was stored.

    Claims until nothing is ready or the limit is reached; jobs that become ready meanwhile are taken too.
    """
    options, hooks = options or WorkerOptions(), hooks or Hooks()
    if concurrency is not None:
        queues = {name: value if value == "serial" else concurrency for name, value in options.queues.items()}
        options = msgspec.structs.replace(options, queues=queues, slots=concurrency)
    tally = _Tally()
    hooks = msgspec.structs.replace(hooks, observers=(*hooks.observers, tally))
    worker = Worker(
        source, programs, options, clock, hooks, state=state, timing=timing, draw=draw, limit=limit, once=True
    )
    await worker.run()
    return Pass(**{name: tuple(found) for name, found in tally.found.items()})
