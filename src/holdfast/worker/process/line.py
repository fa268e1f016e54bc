"""A child's end of the socket to its parent: messages come in through a thread of their own, and go out from any.

The socket is not inherited by programs that this process starts, and a fork of this process loses it at once: what such
a process says can not be taken for the child's own words.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.worker.process.frames import Unpacker, pack

if TYPE_CHECKING:
    from collections.abc import Callable

M = TypeVar("M")


class ParentLine(Generic[M]):
    """Messages `M` from the parent go to `take`; then `ended` is called, once. Both run in the reading thread."""

    def __init__(self, descriptor: int, messages: Any, take: Callable[[M], None], ended: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._unpacker: Unpacker[M] = Unpacker(messages)
        self._take, self._ended = take, ended
        self._sending = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._read, name="holdfast-parent", daemon=True).start()

    def send(self, message: object) -> bool:
        """Send to the parent; False when it is gone, or this process is a fork. Raises BrokenFrame if it is too large."""
        frame = pack(message)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError:
            return False
        return True

    def _forget(self) -> None:
        # In a fork; another thread of the original may have held the lock at that moment.
        self._sending = threading.Lock()
        self._socket.close()

    def _read(self) -> None:
        try:
            while (message := self._unpacker.from_socket(self._socket)) is not None:
                self._take(message)
        finally:
            # Also when the parent sent nonsense: it will get no more answers, and must not wait for them.
            self._ended()
