"""Waiting inside one process: for work, and for jobs to end. Callers may live in several loops and threads."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Signal:
    """A counter that grows when something came; waiters are told at once, in their own loops."""

    def __init__(self) -> None:
        self.count = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()

    def notify(self) -> None:
        """Something came. Cheap when nobody waits."""
        self.count += 1
        if self._waiters:
            with self._lock:
                waiters, self._waiters = self._waiters, set()
            for waiter in waiters:
                wake(waiter)

    async def wait(self, seen: int, timeout: float) -> bool:
        """Return True as soon as the count is above `seen`; False after `timeout` seconds."""
        if self.count > seen:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters.add(waiter)
        if self.count > seen:  # it may have come, from another thread, before we stood in line
            self._waiters.discard(waiter)
            return True
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            with self._lock:
                self._waiters.discard(waiter)
        return self.count > seen


def wake(waiter: asyncio.Future[None]) -> None:
    """Finish a future from any thread. A loop that has closed has nobody left to tell."""
    loop = waiter.get_loop()
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if loop is here:
        _finish(waiter)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_finish, waiter)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Endings:
    """Who waits for which job to end."""

    def __init__(self) -> None:
        self._signals: dict[int, tuple[Signal, int]] = {}  # seq -> signal, how many wait
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._signals)

    def ended(self, seqs: Iterable[int]) -> None:
        """These jobs have ended."""
        for seq in seqs:
            found = self._signals.get(seq)
            if found is not None:
                found[0].notify()

    async def wait(self, seq: int, timeout: float) -> None:
        """Wait until the job ends, or `timeout` seconds."""
        with self._lock:
            signal, count = self._signals.get(seq, (Signal(), 0))
            self._signals[seq] = (signal, count + 1)
        try:
            await signal.wait(signal.count, timeout)
        finally:
            with self._lock:
                signal, count = self._signals.pop(seq)
                if count > 1:
                    self._signals[seq] = (signal, count - 1)
