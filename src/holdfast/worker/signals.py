"""Signals of the operating system, mapped to the three steps of a drain; and how a process leaves.

    SIGTERM, SIGINT   first: drain; second: cancel the handlers; third: exit now, with 128 + the signal's number

Exit codes: 0 clean (drained, everything settled or given back); 75 abandoned handlers held too many slots, start a new
process; 128 + n the third signal n; 1 an error that is shown.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_LAST: Final = 3


@contextmanager
def install_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While in the block, call `stop` (`worker.stop`) in the running loop at each signal; leave the process at the third.

    The handlers are Python's own, not the loop's: the third signal works even when a handler blocks the loop. Raises
    UsageError outside of the main thread, where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "expected the main thread, found another: Python handles signals in the main thread alone. "
            "Use `async with app.worker()` here, and stop it yourself."
        )
    loop = asyncio.get_running_loop()
    count = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= _LAST:
            exit_process(128 + number)
        with suppress(RuntimeError):  # the loop is closing already: there is nothing left to stop
            loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_process(code: int) -> NoReturn:
    """Leave the process at once, without waiting for abandoned handlers, which may never end. Output is flushed."""
    for stream in (sys.stdout, sys.stderr):
        # A signal may have come in the middle of a write to the very stream.
        with suppress(OSError, RuntimeError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
