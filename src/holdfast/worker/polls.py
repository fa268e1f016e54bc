"""When to look again at queues in which nothing was found.

Each queue has an interval of its own, if people gave it one, else the worker's. A queue **rests** until its interval has
passed since it was found empty; the others are asked without it meanwhile. Whatever tells of work ends all rests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from holdfast.job.commands import QueueWant
    from holdfast.job.model import Queue

#: A store that pushes is asked that much less often when nothing comes, unless the queue says how often.
PUSH_PATIENCE: Final = 5.0
#: How often an idle worker reads what people made of the queues' policies, in seconds.
REFRESH: Final = 60.0


class Polls:
    """The rests of one worker's queues. `draw` keeps a fleet from asking in step; times are monotonic seconds."""

    def __init__(self, source: Any, usual: float, *, push: bool, draw: Callable[[], float]) -> None:
        # A source that is no store (a table of users' rows) has no queues with a policy.
        self._read: Callable[[], Awaitable[Iterable[Queue]]] | None = getattr(source, "queues", None)
        self._usual = usual * (PUSH_PATIENCE if push else 1.0)
        self._draw = draw
        self._own: Mapping[str, float] = {}
        self._read_at: float | None = None
        self._rest: dict[str, float] = {}

    async def refresh(self, now: float) -> None:
        """Read the queues' own intervals, if they were not read lately. Raises what the store raises."""
        if self._read is None or (self._read_at is not None and now - self._read_at < REFRESH):
            return
        self._read_at = now  # also of a read that fails: what is known goes on to count
        queues = await self._read()
        self._own = {queue.name: queue.poll_interval for queue in queues if queue.poll_interval is not None}

    def awake(self, wanted: tuple[QueueWant, ...], now: float) -> tuple[QueueWant, ...]:
        """Return those of `wanted` that may be asked now."""
        if not self._rest:
            return wanted
        return tuple(want for want in wanted if self._rest.get(want.queue, now) <= now)

    def found_empty(self, asked: Iterable[QueueWant], now: float) -> None:
        """Let these queues rest."""
        for want in asked:
            interval = self._own.get(want.queue, self._usual)
            self._rest[want.queue] = now + interval * (0.75 + self._draw() / 2)

    def next_at(self, now: float) -> float:
        """When the first rest ends that is not over yet."""
        return min((end for end in self._rest.values() if end > now), default=now + self._usual)

    def wake(self) -> None:
        """Something came, or may have: ask all."""
        self._rest.clear()
