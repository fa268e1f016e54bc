"""How far the parent was asked to stop: 1 drain, 2 cancel the handlers, 3 end now."""

from __future__ import annotations

import asyncio

END_NOW = 3


class Stops:
    """The step, and those who wait for the next one."""

    def __init__(self) -> None:
        self.step = 0
        self._changed = asyncio.Event()

    def ask(self, step: int | None = None) -> None:
        """Go one step further, or at least to `step`."""
        self.step = min(END_NOW, self.step + 1) if step is None else max(self.step, step)
        # Each waiter waits for the event of its time, so that none misses a step.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def beyond(self, step: int) -> int:
        """Wait until the step is above `step`; return it."""
        while self.step <= step:
            await self._changed.wait()
        return self.step
