"""The attempt that runs in this child now: the thread that reads the socket cancels it, the main thread runs it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.worker.context import CancelReason, Context
    from holdfast.worker.process.frames import Start


class Running:
    """One attempt. A cancel may come before it begins, in the middle, or after it has ended."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.reason: CancelReason | None = None
        self._lock = threading.Lock()
        self._ctx: Context | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def begin(self, ctx: Context) -> None:
        """The attempt has its context."""
        with self._lock:
            self._ctx = ctx
            ctx.cancel_reason = self.reason

    def begin_task(self) -> None:
        """The attempt goes on in the current asyncio task; if it was asked to stop before, its next await is cancelled."""
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self.reason is not None:
                self._loop.call_soon(self._interrupt)

    def cancel(self, reason: CancelReason) -> None:
        """Ask it to stop. From the reading thread; the first reason counts."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            if self._ctx is not None:
                self._ctx.cancel_reason = reason
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._ctx is not None and self._ctx._asked is not None:
            self._ctx._asked.set()
        if self._task is not None:
            self._task.cancel(self.reason)
