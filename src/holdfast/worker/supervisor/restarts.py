"""How long to wait before a worker process that died is started again. Pure."""

from __future__ import annotations

from typing import Final

#: A process that lived so long, in seconds, is not part of a crash loop.
LONG_LIFE: Final = 60.0
DELAY_MAX: Final = 30.0


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait after death number `deaths` (from 1) in a row: at once, then 1, 2, 4 … 30.

    >>> [restart_delay(n) for n in (1, 2, 3, 4, 8, 1_000)]
    [0.0, 1.0, 2.0, 4.0, 30.0, 30.0]
    """
    return 0.0 if deaths <= 1 else float(min(DELAY_MAX, 2.0 ** min(deaths - 2, 16)))


def deaths_in_a_row(before: int, lived: float, *, orderly: bool = False) -> int:
    """Return how many deaths there were in a row after one more, after `lived` seconds of life.

    >>> deaths_in_a_row(3, lived=0.5), deaths_in_a_row(3, lived=100.0), deaths_in_a_row(3, lived=20.0, orderly=True)
    (4, 1, 0)
    """
    if orderly:
        return 0
    return 1 if lived >= LONG_LIFE else before + 1
