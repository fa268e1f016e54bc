"""The heart of a supervised worker: the parent beats, told what to beat by this side of the line.

A thread sends a sign of life every second, and with it what the parent needs to judge a loop that is blocked. The answers
of the parent's beats are handed to the worker as those of its own heart would be.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

from holdfast.errors import StoreUnavailable
from holdfast.worker.supervisor.messages import BeatFailed, Here

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.worker.heart import Body
    from holdfast.worker.supervisor.messages import Beaten

SIGN_EVERY: Final = 1.0  # seconds


class ParentHeart:
    """Implements Heart. `send` takes messages for the parent, from any thread; `monotonic` is the machine's clock."""

    def __init__(self, send: Callable[[object], object], *, beat_every: float, monotonic: Callable[[], float]) -> None:
        self._send, self._beat_every, self._monotonic = send, beat_every, monotonic
        self._body: Body | None = None
        self._turned_at = monotonic()
        self._ended = threading.Event()
        self._first: asyncio.Event = asyncio.Event()
        self._last: asyncio.Event = asyncio.Event()
        self._turn: asyncio.TimerHandle | None = None

    # --- for the worker, in its loop -------------------------------------------------------------------------------

    async def start(self, body: Body) -> None:
        """Begin; return after the first beat."""
        self._body, self._loop = body, asyncio.get_running_loop()
        self._turned()
        self._tell(beat=True)
        threading.Thread(target=self._show_life, name="holdfast-signs", daemon=True).start()
        await self._first.wait()

    def poke(self) -> None:
        """Beat now: the record has changed."""
        if self._body is not None and not self._ended.is_set():
            self._tell(beat=True)

    async def stop(self) -> None:
        """Have the last record beaten, waiting at most one interval, and end."""
        self._ended.set()
        if self._turn is not None:
            self._turn.cancel()
        self._tell(beat=True, last=True)
        async with asyncio.timeout(self._beat_every):
            await self._last.wait()

    # --- from the parent, in the loop ------------------------------------------------------------------------------

    def answered(self, answer: Beaten | BeatFailed) -> None:
        """A beat was answered, or has failed."""
        if self._body is None:
            return
        if isinstance(answer, BeatFailed):
            self._body.beat_failed(StoreUnavailable(answer.why))
        else:
            self._body.beaten(answer.signals, answer.sent, answer.received)
        self._first.set()
        if answer.last:
            self._last.set()

    def orphaned(self) -> None:
        """The parent is gone: nobody beats any more, and nobody waits for an answer."""
        self.answered(BeatFailed("the parent of this worker process has died", last=True))

    # --- signs of life ---------------------------------------------------------------------------------------------

    def _turned(self) -> None:
        self._turned_at = self._monotonic()
        self._turn = self._loop.call_later(SIGN_EVERY, self._turned)

    def _show_life(self) -> None:
        while not self._ended.wait(SIGN_EVERY):
            self._tell()

    def _tell(self, *, beat: bool = False, last: bool = False) -> None:
        assert self._body is not None, "started with a body"
        self._send(
            Here(self._body.describe(), self._turned_at, self._body.overdue_at(), beat, last, self._body.beat_within())
        )
