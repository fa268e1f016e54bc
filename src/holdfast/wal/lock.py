"""One writer per folder: an exclusive flock on LOCK, whose text says who holds it.

A lock of this kind belongs to the opened file, which a forked child shares: it would outlive the owner in the child. So
the child closes its copy at once. A program started by the owner never gets it (close-on-exec).
"""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.wal.errors import LogHeld
from holdfast.wal.files import boot, host, opened, write_all
from holdfast.wal.layout import LOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.wal.files import Files

_TEXT_SIZE: Final = 512
_TRIES: Final = 20
_PAUSE: Final = 0.01  # seconds; an owner that just died needs a moment to let go


class Holder(msgspec.Struct, frozen=True):
    """Who wrote LOCK last. `boot` tells whether the pid still means anything."""

    pid: int = 0
    boot: str = ""
    host: str = ""


def read_holder(files: Files) -> Holder:
    """What LOCK says; empty values if it says nothing readable. Says nothing about whether the lock is held."""
    if LOCK not in files.list():
        return Holder()
    with opened(files, LOCK) as handle:
        data = files.read(handle, 4096, 0)
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.DecodeError:
        return Holder()


class Lock:
    """The right to write. `release` gives it back; so does the end of the process."""

    def __init__(self, files: Files, handle: int) -> None:
        self._files, self._handle = files, handle
        self._on_fork: list[Callable[[], None]] = []
        os.register_at_fork(after_in_child=partial(forget, weakref.ref(self)))

    def on_fork(self, call: Callable[[], None]) -> None:
        """Have `call` called in a forked child, where this lock is no longer held."""
        self._on_fork.append(call)

    @property
    def held(self) -> bool:
        """Whether LOCK is still the file that this process has locked."""
        return self._handle >= 0 and self._files.same(self._handle, LOCK)

    def release(self) -> None:
        """Let go. Harmless when repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            self._files.close(handle)


def forget(reference: Callable[[], Lock | None]) -> None:
    """In a forked child: close the shared file, so that the lock is the parent's alone, and tell those who rely on it.

    Calls registered for a fork are never unregistered, so they must not keep the lock alive: hence the reference.
    """
    lock = reference()
    if lock is not None:
        lock.release()
        for call in lock._on_fork:
            call()


def acquire(files: Files, pause: Callable[[float], None] = time.sleep) -> Lock:
    """Become the one writer; raises LogHeld, which says who is, if that does not succeed within a fifth of a second."""
    for _ in range(_TRIES):
        handle = _open(files)
        if files.lock(handle) and files.same(handle, LOCK):
            _sign(files, handle)
            return Lock(files, handle)
        files.close(handle)
        pause(_PAUSE)
    holder = read_holder(files)
    raise LogHeld(files.path, holder.pid, holder.boot, holder.host)


def _open(files: Files) -> int:
    try:
        return files.create(LOCK)
    except FileExistsError:
        return files.open(LOCK, write=True)


def _sign(files: Files, handle: int) -> None:
    try:
        # Of one length and in place, so that this also works on a full disk.
        text = msgspec.json.encode(Holder(os.getpid(), boot(), host()))
        write_all(files, handle, text.ljust(_TEXT_SIZE - 1) + b"\n", 0)
    except OSError:
        files.close(handle)
        raise
