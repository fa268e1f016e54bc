"""What a process knows of there being nothing to do, so that it asks a database little.

A claim that took all there was, and a wait that heard of nothing beside a look that saw nothing, need no claim behind them.
Looks at all that there may be to do walk past what ended, for as long as somebody keeps a snapshot in which it had not: a
process whose claims find work leaves out what these tell it, and what takes long it looks at rarely. Times are the loop's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.job import commands as c

#: Seconds before a wait in which a look of the rescues counts as one during it: the next one is never far.
LOOKED: Final = 5.0
#: Seconds from which on a look at all counts as slow; and after how many times as long as it took there is another one.
SLOW: Final = 0.2
APART: Final = 20.0
_NEVER: Final = float("-inf")


class Idling:
    """The state of one store. `steered`: a test's clock says what time it is, so no look is left out for being slow."""

    def __init__(self, *, steered: bool) -> None:
        self._steered = steered
        self.queues: tuple[str, ...] = ()  # that were claimed from last
        self.instance = ""  # for which
        self._finds = True  # whether a claim may find something: none has left nothing since
        self._emptied: tuple[tuple[str, ...], int] | None = None  # queues that a claim left empty, and its cursor
        self._vain: tuple[tuple[str, ...], float] | None = None  # for which queues a wait saw nothing, and since when
        self._nothing_at = _NEVER  # when a look last saw that no job was ready
        self._whole_at = _NEVER  # from when on a look may be one at all

    # --- claims and waits

    def claiming(self, want: c.Want) -> None:
        """A claim is asked for."""
        self.queues, self.instance = tuple(one.queue for one in want.queues), want.instance

    def claimed(self, cursor: int, *, left_nothing: bool) -> None:
        """It was answered. cursor: of what was heard before it."""
        self._finds = not left_nothing
        if left_nothing:
            self._emptied = self.queues, cursor

    def waited(self, began: float, *, in_vain: bool) -> None:
        """A wait is over that began then. in_vain: nothing was heard meanwhile by one who would have heard of it."""
        self._vain = (self.queues, began) if in_vain else None

    def was_in_vain(self) -> bool:
        """Tell once whether the wait before this claim saw nothing, and a look lately saw that there was nothing."""
        vain, self._vain = self._vain, None
        return vain is not None and set(vain[0]) == set(self.queues) and self._nothing_at >= vain[1] - LOOKED

    def was_emptied(self, cursor: int) -> bool:
        """Tell once whether the claim before this one took all there was, and nothing was heard since."""
        emptied, self._emptied = self._emptied, None
        return emptied == (self.queues, cursor)

    # --- looks

    def asks(self, now: float) -> tuple[tuple[str, ...], bool]:
        """Return of which queues a look asks for ready jobs, and whether it looks at all."""
        return (() if self._finds else self.queues), now >= self._whole_at

    def looked(self, at: float, took: float, *, asked: tuple[str, ...], ready: bool) -> None:
        """There was a look at all; at, took: when and for how many seconds; ready: whether a job of those `asked` for was."""
        if took > SLOW and not self._steered:
            self._whole_at = at + took * APART
        if asked and not ready:
            self._nothing_at = at
