"""Who of many idle processes goes first to new work.

A notification reaches every process that listens. Would each of them claim at once, one job would cost as many statements as
there are idle processes, nearly all of them in vain. So a notification says how many jobs came, and under which mark; each
process waits for a random moment, on average one process in `_APART` seconds; and whoever claims and sees that nothing is
left says so: those who still wait for the same marks stay where they are. Alone, or when there is work for all, nobody waits.

Nothing is lost by it: a mark stands for jobs of known queues that were ready when it was sent; it is called off only by a
claim that began after the mark was heard, asked for all of its queues, and got less than it could have taken.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: Seconds between two processes that go to the same work, on average: a claim and the word that nothing is left take less.
_APART: Final = 0.003
#: No job waits longer than this because others might be quicker.
_LONGEST: Final = 0.25
_MARKS_MAX: Final = 64


class News(NamedTuple):
    """New work, as a notification tells it. jobs: how many; 0 if that is not known. mark: of this notification."""

    queues: frozenset[str]
    jobs: int = 0
    mark: str = ""


class Herd:
    """The part of one process in it. `others`: how many processes there are beside this one, as it knows it."""

    def __init__(self, wake: Callable[[], None], draw: Callable[[], float]) -> None:
        """wake: let those who wait in this process claim; draw: a number from 0 to 1."""
        self._wake, self._draw = wake, draw
        self.others = 0
        self._open: dict[str, frozenset[str]] = {}  # marks that nobody called off: of which queues
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def heard(self, news: News) -> None:
        """There is new work: go there, now or a little later."""
        if not news.mark or not news.jobs or not self.others:
            self._wake()
            return
        while len(self._open) >= _MARKS_MAX:
            self._forget(next(iter(self._open)))
        self._open[news.mark] = news.queues
        spread = min(_LONGEST, _APART * (self.others + 1) / news.jobs)
        if spread <= _APART:
            self._wake()
        else:
            self._timers[news.mark] = asyncio.get_running_loop().call_later(self._draw() * spread, self._go, news.mark)

    def _go(self, mark: str) -> None:
        self._timers.pop(mark, None)
        self._wake()

    def before_claim(self, queues: Collection[str]) -> tuple[str, ...]:
        """The marks whose jobs a claim of these queues sees, from now on."""
        if not self._open:
            return ()
        asked = frozenset(queues)
        return tuple(mark for mark, its in self._open.items() if its <= asked)

    def saw_the_end(self, marks: Collection[str]) -> tuple[str, ...]:
        """A claim left nothing behind: its marks are done here. Return those that others may still wait for."""
        return tuple(mark for mark in marks if self._forget(mark))

    def called_off(self, marks: Collection[str]) -> None:
        """Somebody else left nothing behind of these."""
        for mark in marks:
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
