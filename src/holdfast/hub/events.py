"""Live events: what happened lately, kept in a ring, and told to all who listen.

A process keeps its last 10,000 events, numbered `boot:n`: `boot` is drawn at each start, so a number of another process or
life is known as such. Whoever comes back with the last id that he saw gets what came after it; when that is gone, or was
never told here, he gets `reset` and reads anew. Nothing is kept for a listener but his place: one who does not take his
events in time is overtaken by the ring and told `reset`, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.hub.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RING: Final = 10_000
#: How many may listen to one process.
LISTENERS_MAX: Final = 200
#: After how many seconds without an event a listener is sent a comment, so that both sides see that the other is there.
BEAT: Final = 15.0
#: How many events are sent together.
_TOGETHER: Final = 100
_encode: Final = msgspec.json.Encoder().encode


class Ring:
    """The latest events of this process. `publish` may be called in any thread, all else in one loop."""

    def __init__(self, boot: str = "", size: int = RING) -> None:
        """`boot`: the name of this life of the process; drawn unless given."""
        self._boot = boot or secrets.token_hex(4)
        self._events: deque[tuple[int, str, Any]] = deque(maxlen=size)
        self._last = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.listeners = 0

    def publish(self, kind: str, data: Any) -> None:
        """Add an event. `data`: what JSON can say; small, for it is kept."""
        self._last += 1
        self._events.append((self._last, kind, data))
        while self._waiting:
            loop, came = self._waiting.pop()
            loop.call_soon_threadsafe(came.set)

    async def listen(self, after: str = "") -> AsyncIterator[str]:
        """Yield texts of the event stream: what came after the id `after` (empty: from now on), and what comes.

        Raises Refusal, before the first text, when too many listen already.
        """
        if self.listeners >= LISTENERS_MAX:
            raise Refusal(429, f"expected at most {LISTENERS_MAX} listeners of one process. Close one of them.", BEAT)
        self.listeners += 1
        try:
            place, lost = self._place(after)
            yield "retry: 2000\n\n" + (
                self._text(place, "reset", {"why": "events were missed: read anew"}) if lost else ""
            )
            while True:
                if place < self._oldest() - 1:
                    place = self._last
                    yield self._text(place, "reset", {"why": "you were too slow: read anew"})
                found = self._after(place)
                if found:
                    place = found[-1][0]
                    yield "".join([self._text(*event) for event in found])
                else:
                    yield await self._next(place)
        finally:
            self.listeners -= 1

    def _place(self, after: str) -> tuple[int, bool]:
        """Where to go on, and whether something was missed."""
        boot, _, number = after.partition(":")
        if not after:
            return self._last, False
        if boot != self._boot or not number.isdecimal() or len(number) > 18:
            return self._last, True
        place = int(number)
        known = self._oldest() - 1 <= place <= self._last
        return (place, False) if known else (self._last, True)

    def _oldest(self) -> int:
        return self._events[0][0] if self._events else self._last + 1

    def _after(self, place: int) -> list[tuple[int, str, Any]]:
        events = self._events
        start = max(0, place + 1 - self._oldest())
        return [events[at] for at in range(start, min(start + _TOGETHER, len(events)))]

    async def _next(self, place: int) -> str:
        """Wait for an event after `place`; return a comment when none came for a while."""
        came = asyncio.Event()
        waiter = (asyncio.get_running_loop(), came)
        self._waiting.add(waiter)
        if self._last > place:  # it came, in another thread, before anybody could be told
            came.set()
        try:
            async with asyncio.timeout(BEAT):
                await came.wait()
        except TimeoutError:
            return ": still here\n\n"
        finally:
            self._waiting.discard(waiter)
        return ""

    def _text(self, number: int, kind: str, data: Any) -> str:
        return f"id: {self._boot}:{number}\nevent: {kind}\ndata: {_encode(data).decode()}\n\n"
