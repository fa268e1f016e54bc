"""Who of many idle processes goes first to new work.

A notification reaches every process that listens. Would each of them claim at once, one job would cost as many statements as
there are idle processes, nearly all of them in vain. So a notification says how many jobs came, and under which mark. The
mark tells who is first: each process knows its place among those that live, and counts on from there. As many as there are
jobs go at once, the others one after the other; and whoever claims and sees that nothing is left says so: those who still
wait for the same marks stay where they are. Alone, or when there is work for all, nobody waits.

How far apart they go is learned: about twice as long as it takes until they hear that nothing is left.

Nothing is lost by it: a mark stands for jobs of known queues that were ready when it was sent; it is called off only by a
claim that began after the mark was heard, asked for all of its queues, and got less than it could have taken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: Seconds between two processes that go to the same work: a claim and the word that nothing is left should take less.
_APART_MIN: Final = 0.006
_APART_MAX: Final = 0.05
#: No job waits longer than this because others might be quicker.
_LONGEST: Final = 0.5
_MARKS_MAX: Final = 64


class News(NamedTuple):
    """New work, as a notification tells it. jobs: how many; 0 if that is not known. mark: of this notification."""

    queues: frozenset[str]
    jobs: int = 0
    mark: str = ""


class Herd:
    """The part of one process in it.

    others: how many processes there are beside this one, as it knows it; place: how many of them stand before it.
    """

    def __init__(self, wake: Callable[[], None], now: Callable[[], float]) -> None:
        """wake: let those who wait in this process claim; now: seconds of a clock that never steps."""
        self._wake, self._now = wake, now
        self.others = self.place = 0
        self._apart = _APART_MIN
        self._open: dict[str, tuple[frozenset[str], float]] = {}  # marks that nobody called off: queues, when heard
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def heard(self, news: News) -> None:
        """There is new work: go there, now or a little later."""
        if not news.mark or not news.jobs or not self.others:
            self._wake()
            return
        while len(self._open) >= _MARKS_MAX:
            self._forget(next(iter(self._open)))
        self._open[news.mark] = news.queues, self._now()
        turns = (int(news.mark, 16) + self.place) % (self.others + 1) // news.jobs
        if turns == 0:
            self._wake()
        else:
            wait = min(_LONGEST, turns * self._apart)
            self._timers[news.mark] = asyncio.get_running_loop().call_later(wait, self._go, news.mark)

    def _go(self, mark: str) -> None:
        self._timers.pop(mark, None)
        self._wake()

    def before_claim(self, queues: Collection[str]) -> tuple[str, ...]:
        """The marks whose jobs a claim of these queues sees, from now on."""
        if not self._open:
            return ()
        asked = frozenset(queues)
        return tuple(mark for mark, (its, _) in self._open.items() if its <= asked)

    def saw_the_end(self, marks: Collection[str]) -> tuple[str, ...]:
        """A claim left nothing behind: its marks are done here. Return those that others may still wait for."""
        return tuple(mark for mark in marks if self._forget(mark))

    def called_off(self, marks: Collection[str]) -> None:
        """Somebody else left nothing behind of these."""
        for mark in marks:
            if mark in self._open:
                took = self._now() - self._open[mark][1]
                self._apart += (min(_APART_MAX, max(_APART_MIN, 2 * took)) - self._apart) / 4
            self._forget(mark)

    def stop(self) -> None:
        """Go nowhere any more."""
        for mark in tuple(self._open):
            self._forget(mark)

    def _forget(self, mark: str) -> bool:
        timer = self._timers.pop(mark, None)
        if timer is not None:
            timer.cancel()
        return self._open.pop(mark, None) is not None
