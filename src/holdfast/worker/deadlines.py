"""Deadlines of all attempts: one heap, one timer. A handler that ends early leaves its entry, which is skipped later."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.worker.execution import Execution
    from holdfast.worker.timing import Timer, Timing

#: Entries of ended handlers are swept out when they are this many and more than half of all.
SWEEP: Final = 1_024

Due = tuple[float, int, "Execution", bool]


class Deadlines:
    """Calls `expired(execution)` at an attempt's time limit, and `abandon(execution)` when its grace is over."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        timing: Timing,
        expired: Callable[[Execution], None],
        abandon: Callable[[Execution], None],
    ) -> None:
        self._monotonic, self._timing = monotonic, timing
        self._expired, self._abandon = expired, abandon
        self._heap: list[Due] = []
        self._order = count()
        self._timer: Timer | None = None
        self._armed = float("inf")
        self._ended = 0  # handlers that ended before their entry came up

    def limit(self, execution: Execution, when: float) -> None:
        """The attempt may run until `when`."""
        self._push(when, execution, False)

    def grace(self, execution: Execution, when: float) -> None:
        """The attempt was cancelled and has until `when` to stop."""
        self._push(when, execution, True)

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._heap)

    def _push(self, when: float, execution: Execution, is_grace: bool) -> None:
        heapq.heappush(self._heap, (when, next(self._order), execution, is_grace))
        if when < self._armed:
            self._arm(when)

    def ended(self) -> None:
        """A handler with an entry has ended: the entry is of no use any more."""
        self._ended += 1
        if self._ended >= SWEEP and self._ended * 2 > len(self._heap):
            self._heap = [due for due in self._heap if due[2].handler is not None]
            heapq.heapify(self._heap)
            self._ended = 0

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        self._timer = self._timing.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer, self._armed = None, float("inf")
        now = self._monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].handler is None):
            _, _, execution, is_grace = heapq.heappop(self._heap)
            if execution.handler is None:
                self._ended = max(0, self._ended - 1)
            elif is_grace:
                self._abandon(execution)
            else:
                self._expired(execution)
        if self._heap and self._heap[0][0] < self._armed:
            self._arm(self._heap[0][0])

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()
