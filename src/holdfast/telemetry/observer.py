"""Who listens at the front door of a store. Each is told once per call, after the store has answered: never per job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.commands import Claims, Enqueued, Order, Ordered, Rescued, Settled, Settlement, Want


class Gone(msgspec.Struct, frozen=True):
    """An attempt that the store ended itself. end: lost or crashed. state: where that put the job."""

    id: str
    task: str
    queue: str
    number: int
    end: End
    state: State
    reason: str = ""


class StoreObserver:
    """Listens to a store: override what you want to hear. Called in the caller's loop or thread; must return quickly.

    What an observer raises is logged and changes nothing.
    """

    def opened(self, seconds: float) -> None:
        """The store is ready; for a journal, `seconds` is how long recovery took."""

    def enqueued(self, answers: Sequence[Enqueued]) -> None:
        """Jobs were stored, or found to be there already: by a producer, a schedule, or a replay of jobs by their ids."""

    def claimed(self, want: Want, claims: Claims[Any]) -> None:
        """Jobs were handed out; also told when there were none."""

    def settled(self, settlements: Sequence[Settlement[Any]], answers: Sequence[Settled]) -> None:
        """Attempts were ended, or refused as stale."""

    def progressed(self, answers: Sequence[Settled]) -> None:
        """Reports of running attempts were written, or refused as stale."""

    def gone(self, attempts: Sequence[Gone]) -> None:
        """The store ended these attempts itself: their lease had passed, or their process had died."""

    def rescued(self, rescued: Rescued) -> None:
        """A round of upkeep was made."""

    def ordered(self, order: Order, answer: Ordered) -> None:
        """An operator acted on jobs."""

    def changed(self, what: str, name: str, who: str) -> None:
        """A queue, task, schedule or worker was changed or deleted; `what` is the call's name."""

    def refused(self, call: str, error: Exception) -> None:
        """A call raised, because the store would not or could not; the caller gets the same error."""


def listening(observers: Sequence[StoreObserver], event: str) -> tuple[Any, ...]:
    """Return the methods of those observers that override `event`."""
    own = getattr(StoreObserver, event)
    return tuple(getattr(one, event) for one in observers if getattr(type(one), event) is not own)
