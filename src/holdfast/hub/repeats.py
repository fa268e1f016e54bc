"""Claims that are held open until there is something, and claims whose answer was lost.

A client names each of its requests. When it asks again under the same name it gets the same claims, not more; when it asks
again without a wish to wait, the first request is answered now. Nothing is claimed for a caller who has gone away: the wait
ends, and what was being claimed at that moment is kept for the repeat.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from holdfast.job.commands import Claims, Want
    from holdfast.job.model import Job
    from holdfast.store import Store

#: How many answers are kept. A client repeats within seconds, or finds its claims by the next heartbeat.
KEPT: Final = 1_000
#: The longest time that a claim is held open, in seconds.
HELD_MAX: Final = 30.0
#: How often a held claim asks the store anew without being told, in seconds: news may be lost.
_LOOK: Final = 5.0
#: The shortest sleep when something should be due and the store says that it is not, in seconds.
_NAP: Final = 0.01


class Repeats:
    """The latest claims by instance and request id. One per process."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}

    @property
    def waiting(self) -> int:
        """How many claims are held open now."""
        return sum(held.is_waiting for held in self._held.values())

    async def claim(self, store: Store, want: Want) -> Claims[Job]:
        """Claim from the store, unless this very request was answered before, or is being answered."""
        if not want.request:
            return await store.claim(want)
        key = (want.instance, want.request)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(store, want)
            while len(self._held) > KEPT:
                self._held.pop(next(iter(self._held)))
        elif not want.wait:
            held.end()
        try:
            return await held.answer()
        except Exception:
            # Nothing was handed out: whoever repeats it may try for itself.
            if self._held.get(key) is held:
                del self._held[key]
            raise


class _Held:
    """One claim, and all who wait for its answer."""

    def __init__(self, store: Store, want: Want) -> None:
        self._store, self._want = store, want
        self._ending = asyncio.Event()
        self._waiting = 0
        # A task of its own: a caller who goes away must not stop a claim that the store is about to grant.
        self._task = asyncio.ensure_future(self._claim())

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the first item."""
        return not (self._task.done() or self._ending.is_set())

    def end(self) -> None:
        """Wait no longer."""
        self._ending.set()

    async def answer(self) -> Claims[Job]:
        """The claims, which are the same for everybody who asks."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.end()

    async def _claim(self) -> Claims[Job]:
        begin = time.monotonic()
        wait = min(self._want.wait, HELD_MAX)
        while True:
            waited = time.monotonic() - begin
            claims = await self._store.claim(self._want)
            left = begin + wait - time.monotonic()
            if claims.items or claims.ownerless or left <= 0 or self._ending.is_set():
                return replace(claims, waited=waited)
            await self._news(claims, left)
            if self._ending.is_set():
                return replace(claims, waited=waited)

    async def _news(self, claims: Claims[Job], left: float) -> None:
        """Return when there may be something, when it is due, or when nobody waits any more."""
        left = min(left, _LOOK)
        if claims.next_due is not None:
            left = min(left, max(_NAP, claims.next_due - self._store.now()))
        queues = [one.queue for one in self._want.queues]
        coming = asyncio.ensure_future(self._store.wait(queues, claims.cursor, left))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait([coming, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            coming.cancel()
            ending.cancel()
            await asyncio.wait([coming, ending])
        if not coming.cancelled():
            coming.result()  # raises what the store raised
