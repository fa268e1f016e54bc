"""Trying again while the store is away: with growing pauses, and not longer than it makes sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from holdfast.errors import OutcomeUnknown, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.worker.timing import Timing

R = TypeVar("R")

#: What may go well when it is tried again. Adapters map their driver's errors; a bare OSError is one that got through.
AWAY: Final[tuple[type[Exception], ...]] = (StoreUnavailable, OutcomeUnknown, OSError, TimeoutError)
_PAUSE_FIRST: Final = 0.05
_PAUSE_MAX: Final = 2.0


def pause(failures: int) -> float:
    """Return the seconds to wait after failure number `failures` (from 1)."""
    return float(min(_PAUSE_MAX, _PAUSE_FIRST * 2 ** min(failures - 1, 16)))


async def insist(
    call: Callable[[], Awaitable[R]],
    until: Callable[[], float],
    *,
    timing: Timing,
    monotonic: Callable[[], float],
    told: Callable[[Exception], None],
) -> R:
    """Return what `call` answers, calling it again while the store is away and the clock is before `until()`.

    `told` hears of the first failure. Raises the last error when the time is over.
    """
    failures = 0
    while True:
        try:
            return await call()
        except AWAY as error:
            failures += 1
            if failures == 1:
                told(error)
            if monotonic() + pause(failures) >= until():
                raise
        await timing.sleep(pause(failures))
