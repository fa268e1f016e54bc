"""A process of ours, seen from its parent: start it, talk to it, learn of its end, end it. No zombies, no orphans.

The child is a fresh interpreter (never a fork of a process with threads), the leader of its own session and process
group, joined to us by a socket. Its end is seen in two ways, and both are needed: the socket's end comes first and tells
that nothing more will be said, but a process that the child forked may hold the socket open; a pidfd tells of the end
itself. When the child has ended, its group is killed before it is reaped, while its number can not belong to another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from holdfast.worker.process.frames import Unpacker, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

M = TypeVar("M")

KILL_AFTER: Final = 2.0  # seconds between SIGTERM and SIGKILL
_KILL_TAKES: Final = 10.0  # seconds that a process may take to end after SIGKILL
_LAST_WORDS: Final = 1.0  # seconds in which a process that closed its socket may end by itself


class Spawned(Generic[M]):
    """A running child that sends messages `M`. Made by `spawn`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        unpacker: Unpacker[M],
    ) -> None:
        self._process = process
        self._socket = sock
        self._reader = reader
        self._writer = writer
        self._unpacker = unpacker
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pid: int = process.pid
        _call_at_exit(process, self._reap)

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""
        return self._exited.result() if self._exited.done() else None

    async def send(self, message: object) -> None:
        """Send a message, waiting while the child does not read. A child that is gone is no error: its end is seen elsewhere.

        Raises BrokenFrame if the message is too large.
        """
        self.post(message)
        try:
            await self._writer.drain()
        except ConnectionError:
            # Gone. Whoever waits for the answer sees the end of the stream.
            return

    def post(self, message: object) -> None:
        """Send a message without waiting: for the small ones. Raises BrokenFrame if it is too large."""
        frame = pack(message)
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def receive(self) -> M | None:
        """Return the next message, None when nothing more will come. Raises BrokenFrame."""
        return await self._unpacker.from_stream(self._reader)

    async def exited(self, limit: float | None = None) -> int | None:
        """Wait until it has ended, at most `limit` seconds; return its exit code, or None if it still lives."""
        # Shielded by `wait`: a caller that leaves must not cancel the one future.
        await asyncio.wait((self._exited,), timeout=limit)
        return self.code

    async def ended(self) -> int:
        """After the end of its stream: wait for the end of the process, and bring it about if need be; return the code."""
        code = await self.exited(_LAST_WORDS)
        return await self.kill() if code is None else code

    async def kill(self, after: float = KILL_AFTER) -> int:
        """End it and its process group: SIGTERM, and `after` seconds later SIGKILL; return the exit code."""
        self.signal(signal.SIGTERM)
        if await self.exited(after) is None:
            self.signal(signal.SIGKILL)
        code = await self.exited(_KILL_TAKES)
        # One that hangs in the kernel (a dead network disk) is reaped when it lets go; nobody waits for that.
        return -signal.SIGKILL if code is None else code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its group, unless it has ended."""
        if not self._exited.done():
            _signal_group(self.pid, number)

    def close(self) -> None:
        """Let go of the socket. A child that still lives takes this as the end of its parent, and ends."""
        self._writer.close()

    def _reap(self) -> None:
        # What it started must not outlive it; nobody else would end it.
        _signal_group(self.pid, signal.SIGKILL)
        code = self._process.wait()
        if not self._exited.done():
            self._exited.set_result(code)
        # Ends the stream although a process that left the group may hold the other end; what was sent is still read.
        self._end_stream()

    def _end_stream(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            # Closed or ended already: the stream has its end.
            return


async def spawn(module: str, messages: Any, *arguments: str) -> Spawned[Any]:
    """Start `python -m module FD PARENT arguments…`, joined to us by the socket FD; it sends the union `messages`.

    Standard output and error are ours; standard input is empty. Raises OSError if no process can be made.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        # First the streams, then the process: nothing may be awaited, and so cancelled, while a process has no owner.
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = _start(module, theirs.fileno(), arguments)
        except OSError:
            writer.close()
            raise
    return Spawned(process, ours, reader, writer, Unpacker(messages))


def _start(module: str, descriptor: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    # -u: what a handler printed before it was killed is not lost in a buffer.
    command = [sys.executable, "-u", "-m", module, str(descriptor), str(os.getpid()), *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), start_new_session=True)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # Nobody is left in it; or (seen on macOS) only a process that has ended and waits to be reaped.
        return


def _call_at_exit(process: subprocess.Popen[bytes], done: Callable[[], None]) -> None:
    """Call `done` in this loop when `process` has ended and is not yet reaped."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Not on every system; and with no descriptor left, a process that runs already must have an owner all the same.
        _call_at_exit_by_thread(process, loop, done)
        return

    def readable() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        done()

    loop.add_reader(descriptor, readable)


def _call_at_exit_by_thread(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, done: Callable[[], None]
) -> None:
    def wait() -> None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if not loop.is_closed():
            loop.call_soon_threadsafe(done)

    threading.Thread(target=wait, name=f"holdfast-exit-{process.pid}", daemon=True).start()
