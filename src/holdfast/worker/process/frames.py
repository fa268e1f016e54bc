"""What a worker and its child processes say to each other, and how it looks on the wire: no pickle, only msgpack.

A frame is a length (4 bytes, big-endian, without itself) and that many bytes of msgpack. A length over FRAME_MAX is
never believed: whoever reads it treats the other end as broken.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from holdfast.errors import WorkerError
from holdfast.job.commands import Ending
from holdfast.worker.context import CancelReason, Line
from holdfast.worker.program import ProcessCall

if TYPE_CHECKING:
    import asyncio
    import socket

M = TypeVar("M")

#: A job of 1 MiB with 200 attempts of 64 KiB error text each stays below this, in bytes.
FRAME_MAX: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
_CHUNK: Final = 256 * 1024


class BrokenFrame(WorkerError):
    """The other end sent what is no frame, or one that is too large."""


# --- to the child --------------------------------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first frame: import `app` (`module:attribute`), looking for it where the parent does."""

    app: str
    path: tuple[str, ...]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Run one attempt. time_limit is in seconds from now; what goes past it is killed from outside."""

    call: ProcessCall
    time_limit: float | None = None


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Ask the running handler to stop."""

    reason: CancelReason


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """No more jobs: exit."""


ToChild = Load | Start | Cancel | Stop


# --- from the child ------------------------------------------------------------------------------------------------


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The answer to Load. `fault` is empty when the app is there, else it says why it is not."""

    fault: str = ""
    traceback: str = ""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """What a running handler tells: its progress (JSON), and an update of the job's data (JSON object)."""

    value: bytes = b""
    update: bytes | None = None


class Log(msgspec.Struct, frozen=True, tag="log"):
    """A line of a running handler's log."""

    line: Line


class Result(msgspec.Struct, frozen=True, tag="result"):
    """What became of the attempt. rss: bytes of memory the child holds now. worn: the child is not fit for another job.

    stopped: the handler ended because it was cancelled.
    """

    ending: Ending
    rss: int = 0
    worn: bool = False
    stopped: bool = False


FromChild = Loaded | Progress | Log | Result


# --- the wire ------------------------------------------------------------------------------------------------------


def pack(message: object) -> bytes:
    """Return `message` as a frame. Raises BrokenFrame if it is over FRAME_MAX."""
    body = msgspec.msgpack.encode(message)
    if len(body) > FRAME_MAX:
        raise BrokenFrame(_too_large(len(body)))
    return _LENGTH.pack(len(body)) + body


class Unpacker(Generic[M]):
    """Reads frames of the messages `M` from a stream or a socket."""

    def __init__(self, messages: Any) -> None:
        """`messages` is the tagged union of what may come."""
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(messages)

    async def from_stream(self, reader: asyncio.StreamReader) -> M | None:
        """Return the next message, None when the other end has closed. Raises BrokenFrame."""
        import asyncio

        try:
            length = self._length(await reader.readexactly(_LENGTH.size))
            return self._decode(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            # A frame cut short means the same as none: the sender died in the middle of it.
            return None

    def from_socket(self, sock: socket.socket) -> M | None:
        """Return the next message, None when the other end has closed. Blocks. Raises BrokenFrame."""
        head = _read(sock, _LENGTH.size)
        body = None if head is None else _read(sock, self._length(head))
        return None if body is None else self._decode(body)

    def _length(self, head: bytes) -> int:
        (length,) = _LENGTH.unpack(head)
        if length > FRAME_MAX:
            raise BrokenFrame(_too_large(length))
        return int(length)

    def _decode(self, body: bytes) -> M:
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenFrame(f"expected a frame of msgpack, found {len(body)} bytes that are none: {error}") from error


def _too_large(length: int) -> str:
    return f"expected a frame of at most {FRAME_MAX:,} bytes, found {length:,}. Store the bulk elsewhere and send its name."


def _read(sock: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = sock.recv(min(count - len(parts), _CHUNK))
        except OSError:
            # Reset by a dead peer, or closed here by another thread: the end in either case.
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
