"""A bell between two threads: a byte in a pipe.

A thread that sleeps in `poll` is woken sooner than one that waits for a lock or a queue: the system call that rings
lets go of the interpreter while it wakes the sleeper. On the way of a lone frame, which is nothing but hand-overs beside
its sync, that is a fifth of the time (docs/adr/0007). An event loop can watch the same pipe, and then needs no queue of
calls either.
"""

from __future__ import annotations

import os
import select
import threading


class Bell:
    """Wakes one sleeper. `ring` and `close` may be called by any thread; what is rung twice before a look is heard once."""

    def __init__(self) -> None:
        self._closing = threading.Lock()
        self.handle = self._far = -1  # as long as there is no pipe, there is nothing to close
        self.handle, self._far = os.pipe()  # both are closed in children that exec
        os.set_blocking(self.handle, False)
        self._poll = select.poll()
        self._poll.register(self.handle, select.POLLIN)

    def ring(self) -> None:
        """Wake the sleeper, now or when it next looks. After `close` nobody is left to hear it."""
        # Under a lock, because the number of a closed descriptor may already mean another file.
        with self._closing:
            if self._far >= 0:
                os.write(self._far, b"\0")

    def wait(self, seconds: float | None) -> None:
        """Sleep until the bell rings, or for so many seconds (None: until it rings)."""
        if self._poll.poll(None if seconds is None else seconds * 1e3):
            self.hush()

    def hush(self) -> None:
        """Forget the rings that were heard; for whoever watches `handle`. Only after it was seen to be readable."""
        os.read(self.handle, 4096)

    def close(self) -> None:
        """Give the pipe back. The sleeper must have left. Harmless when repeated."""
        with self._closing:
            if self._far >= 0:
                os.close(self._far)
                os.close(self.handle)
                self._far = self.handle = -1

    # Like a file: what nobody closed and nobody holds any more gives its descriptors back. A log that was left behind
    # when its disk failed would keep two of them for the life of the process otherwise.
    __del__ = close
