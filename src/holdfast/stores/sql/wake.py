"""How a process learns what others did: by looking every now and then while somebody waits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.errors import StoreClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.stores.wakeups import Signal


logger: Final = logging.getLogger("holdfast.store")

#: Seconds until the next look after one that failed.
_AFTER_ERROR: Final = 1.0


class Watch(Protocol):
    """Tells signals of this process what other processes did."""

    async def start(self, work: Signal, ends: Signal, cancel_calls: set[Callable[[], None]]) -> None:
        """Begin: `work` is told of ready jobs, `ends` of ended ones, `cancel_calls` are called when a cancel was asked."""
        ...

    async def stop(self) -> None:
        """End. Calling it twice is fine."""
        ...

    async def wait(self, signal: Signal, seen: int, timeout: float) -> bool:
        """Return True as soon as `signal` counts more than `seen`, also through others; False after `timeout` seconds."""
        ...


class Polling:
    """Looks at a number that changes when another connection wrote; only while somebody waits."""

    def __init__(self, look: Callable[[], Awaitable[int]], every: float) -> None:
        """look: the number; every: seconds between two looks."""
        self._look, self._every = look, every
        self._seen: int | None = None
        self._signals: tuple[Signal, ...] = ()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self, work: Signal, ends: Signal, cancel_calls: set[Callable[[], None]]) -> None:
        """Begin: what others write from now on is noticed. Cancels are told by the next beat."""
        self._signals = (work, ends)
        self._seen = await self._look()

    async def stop(self) -> None:
        """End."""
        self._signals = ()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self, signal: Signal, seen: int, timeout: float) -> bool:
        """Wait for `signal`, and look what others do meanwhile."""
        self._waiting += 1
        try:
            if self._task is None and self._signals:
                self._task = asyncio.get_running_loop().create_task(self._poll(), name="holdfast-watch")
            return await signal.wait(seen, timeout)
        finally:
            self._waiting -= 1

    async def _number(self) -> int | None:
        try:
            return await self._look()
        except StoreClosed:
            raise
        except Exception as error:  # noqa: BLE001 - a look that failed is told and done again; those who wait have their timeout
            logger.warning("could not look whether others have written: %s", error)
            await asyncio.sleep(_AFTER_ERROR)
            return self._seen

    async def _poll(self) -> None:
        try:
            while self._waiting:
                number = await self._number()
                if number != self._seen:
                    self._seen = number
                    for signal in self._signals:
                        signal.notify()
                await asyncio.sleep(self._every)
        except StoreClosed:
            return
        finally:
            self._task = None
