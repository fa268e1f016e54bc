"""Where callers wait for the disk.

Each answer leaves only when the number it depends on is durable. A caller costs one future in a line of its own event loop;
a sync costs one wake-up per loop, however many callers it serves: the writer thread rings, and the loop lets all go whose
number is reached. Numbers grow along each line, so the front of it is all there is to look at.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from holdfast.wal import LogUnknown

if TYPE_CHECKING:
    from holdfast.wal import Log


class Gate:
    """The line of one event loop. `ring` is called by the writer thread, everything else in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop, self._log = loop, log
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._rung = False
        self._failure: BaseException | None = None

    def wait(self, number: int) -> asyncio.Future[None]:
        """Return a future that ends when `number` is durable. It raises LogUnknown if the disk fails before."""
        waiter = self._loop.create_future()
        self._line.append((number, waiter))
        if self._failure is not None or self._log.synced >= number:
            # It came between the caller's look and its place in the line: nobody will ring for it again.
            self._open()
        return waiter

    def ring(self) -> None:
        """Something became durable, or failed: have the loop look. One call at a time is on its way."""
        if self._line and not self._rung:
            self._rung = True
            try:
                self._loop.call_soon_threadsafe(self._open)
            except RuntimeError:
                self._line.clear()  # the loop was closed with callers in line: nobody is left to be told

    def fail(self, error: BaseException) -> None:
        """The log has failed for good. Called by the writer thread."""
        self._failure = error
        self._rung = False
        self.ring()

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
            open_ones = {known: old for known, old in self._gates.items() if not known.is_closed()}
            self._gates = {**open_ones, loop: gate}  # replaced as a whole: the writer thread may be walking over it
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
