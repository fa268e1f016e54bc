"""Where callers wait for the disk.

Each answer leaves only when the number it depends on is durable. A caller costs one future in a line of its own event loop;
a sync costs one wake-up per loop, however many callers it serves: the writer thread rings a bell that the loop watches, and
the loop lets all go whose number is reached. Numbers grow along each line, so the front of it is all there is to look at.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from holdfast.wal import LogUnknown
from holdfast.wal.bell import Bell

if TYPE_CHECKING:
    from holdfast.wal import Log


class Gate:
    """The line of one event loop. `ring`, `fail` and `close` may be called by any thread, everything else in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop, self._log = loop, log
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._rung = False
        self._failure: BaseException | None = None
        self._bell: Bell | None = None  # made for the first caller that has to wait

    def wait(self, number: int) -> asyncio.Future[None]:
        """Return a future that ends when `number` is durable. It raises LogUnknown if the disk fails before."""
        waiter = self._loop.create_future()
        if self._bell is None and not self._is_told(number):
            self._bell = Bell()
            self._loop.add_reader(self._bell.handle, self._heard, self._bell)
        self._line.append((number, waiter))
        if self._is_told(number):
            # It came between the caller's look and its place in the line: nobody will ring for it again.
            self._open()
        return waiter

    def _is_told(self, number: int) -> bool:
        return self._failure is not None or self._log.synced >= number

    def ring(self) -> None:
        """Something became durable, or failed: have the loop look. One ring at a time is on its way."""
        bell = self._bell
        if self._line and not self._rung and bell is not None:
            self._rung = True
            bell.ring()

    def fail(self, error: BaseException) -> None:
        """The log has failed for good. Called by the writer thread."""
        self._failure = error
        self._rung = False
        self.ring()

    def close(self) -> None:
        """Let those go who may, and give the bell back. Called when the log rings no more, or when the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._put_away)
        except RuntimeError:
            self._line.clear()  # the loop was closed with callers in line: nobody is left to be told
            self._put_away()

    def _put_away(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(bell.handle)
            bell.close()
        self._open()

    def _heard(self, bell: Bell) -> None:
        bell.hush()
        self._open()

    def _open(self) -> None:
        self._rung = False
        synced, line = self._log.synced, self._line
        while line and line[0][0] <= synced:
            waiter = line.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        if self._failure is not None:
            self._refuse(self._failure)

    def _refuse(self, error: BaseException) -> None:
        while self._line:
            number, waiter = self._line.popleft()
            if not waiter.done():
                waiter.set_exception(LogUnknown(number, error))


class Gates:
    """The gates of all loops that ever waited for one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._gates: dict[asyncio.AbstractEventLoop, Gate] = {}
        self._adding = threading.Lock()
        self._failure: BaseException | None = None

    async def wait(self, number: int) -> None:
        """Return when `number` is durable. Raises LogUnknown if the disk fails before."""
        loop = asyncio.get_running_loop()
        gate = self._gates.get(loop)
        if gate is None:
            gate = self._add(loop)
        await gate.wait(number)

    def _add(self, loop: asyncio.AbstractEventLoop) -> Gate:
        gate = Gate(loop, self._log)
        with self._adding:
            closed = [old for known, old in self._gates.items() if known.is_closed()]
            open_ones = {known: old for known, old in self._gates.items() if old not in closed}
            self._gates = {**open_ones, loop: gate}  # replaced as a whole: the writer thread may be walking over it
        for old in closed:
            old.close()
        if self._failure is not None:
            gate.fail(self._failure)
        return gate

    def ring(self, _number: int) -> None:
        """Called by the writer thread after each sync."""
        for gate in self._gates.values():
            gate.ring()

    def fail(self, error: BaseException) -> None:
        """Called by the writer thread when the disk has failed."""
        self._failure = error
        for gate in self._gates.values():
            gate.fail(error)

    def close(self) -> None:
        """The log is closed, and rings no more."""
        with self._adding:
            gates, self._gates = self._gates, {}
        for gate in gates.values():
            gate.close()
