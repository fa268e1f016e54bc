"""Rescue: any worker ends claims whose lease has passed, about every third of a lease and out of step with the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.store import Source
    from holdfast.worker.hooks import Alarm
    from holdfast.worker.timing import Timing

#: A lost job is found within five seconds of its lease's end, however long the lease.
EVERY_MAX: Final = 4.2


def every(lease: float, draw: float) -> float:
    """Return the seconds until the next rescue: a third of the lease, at most 4.2 s, a tenth more or less by `draw`."""
    return min(lease / 3, EVERY_MAX) * (0.9 + draw / 5)


async def rescue_for_ever(
    source: Source[Any], *, lease: float, timing: Timing, draw: Callable[[], float], alarm: Alarm
) -> None:
    """Rescue until cancelled. The first comes at once: who starts after a crash finds what the crash left."""
    while True:
        try:
            done = await source.rescue()
            while done.more:
                await asyncio.sleep(0)  # a store in memory answers at once, and handlers want their turn
                done = await source.rescue()
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the next rescue may go well
            alarm("", None, error)
        await timing.sleep(every(lease, draw()))
