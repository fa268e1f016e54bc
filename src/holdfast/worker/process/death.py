"""How a process ended, in words; and how a child process ends when its parent does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_HINTS: Final = {
    signal.SIGKILL: " (nobody can refuse this one; the kernel sends it when memory runs out: see dmesg, or set max_rss)",
    signal.SIGSEGV: " (a fault in native code; run with PYTHONFAULTHANDLER=1 to see where)",
    signal.SIGABRT: " (native code gave up; run with PYTHONFAULTHANDLER=1 to see where)",
    signal.SIGXCPU: " (its limit of processor time)",
}


def in_words(code: int) -> str:
    """Return what the exit code of a process means; negative codes are signals, as in `subprocess`.

    >>> in_words(3)
    'exit code 3'
    >>> in_words(-15)
    'killed by SIGTERM'
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"killed by signal {-code}"
    return f"killed by {number.name}{_HINTS.get(number, '')}"


#: Signals whose numbers are the seconds that an orphan may live at most. See `end_with_parent`.
ORPHAN_ENDS_AT_ONCE: Final = 1  # SIGHUP
ORPHAN_ENDS_SOON: Final = 30  # SIGPWR


def end_with_parent(parent: int, backstop: int) -> None:
    """Let this process end when the process `parent` does, even while native code holds the interpreter. Linux only.

    A child sees its parent's death at the end of its socket, and then ends itself and all it started (`end_group`). But
    native code that never lets go of the interpreter keeps Python from seeing anything. For that case the kernel sends
    us `backstop` when the parent dies, and its handler is the C function `alarm`, which needs no interpreter: called with
    the signal's number n, it lets SIGALRM end this process n seconds later. Killing at once would leave our own children
    without anyone to end them.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(backstop, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(_PR_SET_PDEATHSIG, backstop, 0, 0, 0)
    if os.getppid() != parent:
        # It died before we asked to be told.
        end_group()


def end_group() -> None:
    """End this process and all that it started in its process group. Does not return."""
    os.killpg(0, signal.SIGKILL)
