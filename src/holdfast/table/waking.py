"""Wake-ups within one process: a source that was written to tells those who wait, in whatever loop they are.

Other processes are found by polling: a user's database tells nobody.
"""

from __future__ import annotations

import asyncio
import threading


class Waking:
    """`version` grows with everything that may have made a row ready."""

    def __init__(self) -> None:
        self.version = 0
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def wake(self) -> None:
        """Something may be ready. From any thread."""
        with self._lock:
            self.version += 1
            waiting = list(self._waiting)
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # its loop is closed: nobody waits there any more
                self._forget(loop, event)

    def _forget(self, loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
        with self._lock:
            self._waiting.discard((loop, event))

    async def wait(self, cursor: int, timeout: float) -> bool:
        """Return True as soon as the version is another than `cursor`, False after `timeout` seconds."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting.add((loop, event))
            if self.version != cursor:
                event.set()
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await event.wait()
        except TimeoutError:
            return self.version != cursor
        finally:
            self._forget(loop, event)
        return True
