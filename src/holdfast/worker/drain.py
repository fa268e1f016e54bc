"""Stopping a worker, in three steps. What is unfinished is given back.

    first     claims nothing more, gives back what was not started, and waits for the handlers: up to `grace` seconds
    second    cancels the handlers; each has its cancel grace, then it is abandoned
    third     waits for nothing: what is unfinished is found by the rescue when its lease ends

When the grace is over the second step comes by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdfast.worker.context import CancelReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.worker.claimer import Claimer
    from holdfast.worker.held import HeldClaims
    from holdfast.worker.outbox import Outbox
    from holdfast.worker.reports import Reports
    from holdfast.worker.runner import Runner
    from holdfast.worker.timing import Timing


class Drain:
    """The steps of one worker. `step` is how far it was asked to go: 0 to 3."""

    def __init__(self, *, grace: float, timing: Timing, monotonic: Callable[[], float]) -> None:
        self._grace, self._timing, self._monotonic = grace, timing, monotonic
        self._turn = asyncio.Event()
        self.step = 0

    def ask(self, step: int | None = None) -> None:
        """Go one step further, or at least to `step`."""
        self.step = min(3, self.step + 1) if step is None else max(self.step, step)
        self._turn.set()

    async def asked(self) -> None:
        """Return when the first step was asked for."""
        await self._until(lambda: self.step >= 1)

    async def run(
        self,
        claimer: Claimer,
        claiming: asyncio.Task[None],
        runner: Runner,
        held: HeldClaims,
        outbox: Outbox,
        reports: Reports,
    ) -> None:
        """Drain: return when nothing is held and no handler runs, but abandoned ones; or at the third step."""
        claimer.stop()
        runner.clear_buffers()
        runner.on_change = self._turn.set
        claiming.add_done_callback(lambda _: self._turn.set())
        timer = self._timing.call_at(self._monotonic() + self._grace, lambda: self.ask(2))
        try:
            # A claim that is out is waited for: the store may have granted it, and its jobs are given back.
            await self._until(lambda: (runner.is_quiet and claiming.done()) or self.step >= 2)
        finally:
            timer.cancel()
        if not (runner.is_quiet and claiming.done()) and self.step < 3:
            for execution in held:
                runner.cancel(execution, CancelReason.DRAIN)
            await self._until(lambda: (runner.is_quiet and claiming.done()) or self.step >= 3)
        if self.step >= 3:
            await outbox.abort()
            await reports.abort()

    async def _until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self._turn.clear()
            await self._turn.wait()
