"""The front door of a source that is no store: a task table. Observers hear of it what they hear of a store's hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.job.state import End
from holdfast.telemetry.observer import Gone, listening
from holdfast.worker.hooks import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job import commands as c
    from holdfast.store import Capabilities, Source
    from holdfast.telemetry.observer import StoreObserver

T = TypeVar("T")


class SourceDoor(Generic[T]):
    """A Source that passes every call on to `source` and tells `observers` what came of it.

    name: the queue, and the task, under which lost rows are told.
    """

    def __init__(self, source: Source[T], name: str, observers: Sequence[StoreObserver]) -> None:
        self._source, self._name = source, name
        self._claimed = listening(observers, "claimed")
        self._settled = listening(observers, "settled")
        self._progressed = listening(observers, "progressed")
        self._gone = listening(observers, "gone")
        self._rescued = listening(observers, "rescued")

    @property
    def capabilities(self) -> Capabilities:
        """What the source can do."""
        return self._source.capabilities

    async def claim(self, want: c.Want) -> c.Claims[T]:
        """Hand out ready items."""
        claims = await self._source.claim(want)
        tell(self._claimed, want, claims)
        return claims

    async def settle(self, settlements: Sequence[c.Settlement[T]]) -> list[c.Settled]:
        """End attempts."""
        answers = await self._source.settle(settlements)
        tell(self._settled, settlements, answers)
        return answers

    async def progress(self, reports: Sequence[c.Progress[T]]) -> list[c.Settled]:
        """Write what running attempts report."""
        answers = await self._source.progress(reports)
        tell(self._progressed, answers)
        return answers

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        return await self._source.heartbeat(beat)

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed."""
        rescued = await self._source.rescue(limit)
        gone = [
            Gone(one.id, self._name, self._name, 0, End.LOST, one.state)
            for one in rescued.ended
            if one.state is not None
        ]
        if gone:
            tell(self._gone, gone)
        tell(self._rescued, rescued)
        return rescued

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process."""
        return await self._source.instance_died(died)

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Wait until work may be ready."""
        return await self._source.wait(queues, cursor, timeout)

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Pass on what the source pushes; one that pushes nothing leaves it to the beats."""
        push: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(self._source, "on_cancel", None)
        return (lambda: None) if push is None else push(call)

    def beat_source(self) -> Any:
        """What the heart's thread beats through: beats are not told."""
        make = getattr(self._source, "beat_source", None)
        return self._source if make is None else make()
