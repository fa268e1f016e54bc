"""Slots: how many jobs of each queue may run here, which queue comes first, and how far to claim ahead.

A **lane** is a queue as this worker serves it. Slots come first, then claims: the worker asks for no more than it can
start, but for a small buffer while jobs are short as measured. When all slots together are capped, lanes compete: by
smooth weighted round robin over what they were really given, or strictly in the order given.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from holdfast.job.commands import QueueWant
from holdfast.worker.options import CLAIM_MAX, SERIAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.job.model import QueueShare
    from holdfast.worker.execution import Execution
    from holdfast.worker.options import WorkerOptions

#: A job is short when each slot finishes more than one in this time (seconds); so much work may be claimed ahead.
AHEAD: Final = 0.1
#: Speed is measured over at least this time (seconds), or so many jobs of each slot: what is quick is known to be soon.
MEASURE: Final = 0.05
ROUNDS: Final = 4


class Lane:
    """One queue of this worker."""

    __slots__ = (
        "buffer",
        "busy",
        "concurrency",
        "credit",
        "extra",
        "finished",
        "low",
        "mark",
        "name",
        "serial",
        "weight",
    )

    def __init__(self, name: str, concurrency: int, *, serial: bool, weight: int) -> None:
        self.name, self.concurrency, self.serial, self.weight = name, concurrency, serial, weight
        self.busy = 0  # slots taken
        self.buffer: deque[Execution] = deque()  # claimed, waits for a slot
        self.credit = 0  # of the round robin
        self.finished = 0  # since `mark`
        self.mark = 0.0
        self.extra = 0  # how many may be claimed beyond the free slots
        self.low = 1  # with fewer in the buffer it is time to ask for more

    def measure(self, now: float, most: int) -> None:
        """Set `extra` from what was finished since the last measure."""
        elapsed = now - self.mark
        if elapsed < MEASURE and (elapsed <= 0 or self.finished < ROUNDS * self.concurrency):
            return
        self.extra = ahead(self.finished, elapsed, self.concurrency, most)
        self.low = max(1, (self.extra + 1) // 2)
        self.mark, self.finished = now, 0


def ahead(finished: int, elapsed: float, concurrency: int, most: int) -> int:
    """Return how many jobs to claim beyond the free slots.

    `finished` jobs in `elapsed` seconds: as many as end in a tenth of a second. None when that is no more than one per
    slot, because a long job in the buffer waits while another worker could run it.

    >>> ahead(finished=3_000, elapsed=0.05, concurrency=10, most=500), ahead(2, 0.05, 10, 500)
    (500, 0)
    """
    expected = int(finished * AHEAD / elapsed)
    return min(most, expected) if expected > concurrency else 0


class Lanes:
    """All lanes of a worker."""

    def __init__(self, options: WorkerOptions) -> None:
        self.by_name: dict[str, Lane] = {
            name: Lane(
                name,
                1 if concurrency == SERIAL else int(concurrency),
                serial=concurrency == SERIAL,
                weight=options.weights.get(name, 1),
            )
            for name, concurrency in options.queues.items()
        }
        self._strict = options.strict
        self._buffer = options.buffer
        self._cap = options.slots
        self._first = {name: (lane.concurrency, lane.weight) for name, lane in self.by_name.items()}
        self.busy = 0
        self.on_room: Callable[[], None] | None = (
            None  # called when a lane may ask for more; set by whoever waits for it
        )
        self._serve(tuple(self.by_name.values()))

    def _serve(self, lanes: tuple[Lane, ...]) -> None:
        """Claim from these from now on."""
        self._lanes = lanes
        self.queues = tuple(lane.name for lane in lanes)
        total = sum(lane.concurrency for lane in lanes)
        self.slots = total if self._cap is None else min(self._cap, total)
        # Lanes compete only if there are several and their slots together are capped.
        self._compete = len(lanes) > 1 and self.slots < total
        if len(lanes) == 1:
            lanes[0].concurrency = self.slots
        self.any_serial = any(lane.serial for lane in lanes)

    def configure(self, shares: Sequence[QueueShare]) -> None:
        """Serve the queues that people named, as they said; those that the worker was started with when they named none.

        What runs goes on, and what was claimed is run: a smaller number counts as jobs end. A serial queue stays so.
        """
        wanted = {share.name: (share.concurrency, share.weight) for share in shares} or self._first
        for name, (concurrency, weight) in wanted.items():
            lane = self.by_name.get(name)
            if lane is None:
                lane = self.by_name[name] = Lane(name, concurrency, serial=False, weight=weight)
            lane.concurrency, lane.weight = 1 if lane.serial else concurrency, weight
        self._serve(tuple(self.by_name[name] for name in wanted))

    # --- claiming --------------------------------------------------------------------------------------------------

    def wants(self, now: float, limit: int = CLAIM_MAX) -> tuple[QueueWant, ...]:
        """Return what to ask for, in the order to serve: at most `limit` of each queue. Empty: there is no room."""
        room = self.slots - self.busy
        wanted: list[QueueWant] = []
        for lane in self._ordered():
            lane.measure(now, self._buffer if not lane.serial else 0)
            free, ready = min(lane.concurrency - lane.busy, room), len(lane.buffer)
            # Asking anew for each finished job would be one call per job: a half-empty buffer is refilled at once.
            if (free > 0 and not ready) or ready * 2 < lane.extra:
                count = min(free + lane.extra - ready, limit)
                if count > 0:
                    wanted.append(QueueWant(lane.name, count))
        return tuple(wanted)

    def total(self, wanted: tuple[QueueWant, ...]) -> int:
        """Return how many jobs to ask for in all: what there is room for, at most CLAIM_MAX."""
        asked = sum(want.limit for want in wanted)
        if self._compete:
            ahead_of = max(self.by_name[want.queue].extra for want in wanted)
            asked = min(asked, self.slots - self.busy + ahead_of)
        return min(asked, max(CLAIM_MAX, self.slots))

    def _ordered(self) -> tuple[Lane, ...]:
        if self._strict or not self._compete:
            return self._lanes
        return tuple(sorted(self._lanes, key=lambda lane: -lane.credit))

    def served(self, wanted: tuple[QueueWant, ...], limit: int, counts: Mapping[str, int]) -> None:
        """Note how many jobs each queue gave, so that the next order makes up for it.

        Smooth weighted round robin: each lane that had work gains its share of what was given and pays what it got. An
        empty queue gains nothing, or it would flood the slots when it wakes.
        """
        if not self._compete or self._strict:
            return
        given = sum(counts.values())
        starved = given >= limit
        active = [self.by_name[want.queue] for want in wanted if counts.get(want.queue) or starved]
        whole = sum(lane.weight for lane in active)
        for want in wanted:
            lane = self.by_name[want.queue]
            if lane in active:
                lane.credit += lane.weight * given - whole * counts.get(want.queue, 0)
            else:
                lane.credit = 0

    # --- slots -----------------------------------------------------------------------------------------------------

    def take(self, lane: Lane) -> bool:
        """Take a slot of `lane` if one is free."""
        if lane.busy >= lane.concurrency or self.busy >= self.slots:
            return False
        lane.busy += 1
        self.busy += 1
        return True

    def pass_on(self, lane: Lane) -> Execution | None:
        """A job of `lane` has ended: return the buffered one that shall have its slot, or free it and return None."""
        lane.finished += 1
        is_over = lane.busy > lane.concurrency or self.busy > self.slots  # people said that fewer shall run
        if lane.buffer and not self._compete and not is_over:
            return lane.buffer.popleft()
        lane.busy -= 1
        self.busy -= 1
        return self._pick() if self._compete else None

    def _pick(self) -> Execution | None:
        waiting = [lane for lane in self.by_name.values() if lane.buffer and lane.busy < lane.concurrency]
        if not waiting or self.busy >= self.slots:
            return None
        lane = waiting[0] if self._strict else min(waiting, key=lambda lane: lane.busy / lane.weight)
        self.take(lane)
        return lane.buffer.popleft()

    def buffered(self) -> list[Execution]:
        """Take all that is claimed and not started out of the buffers."""
        found = [execution for lane in self.by_name.values() for execution in lane.buffer]
        for lane in self.by_name.values():
            lane.buffer.clear()
        return found
