"""One list of several: the newest of each in pages, so that nothing is shown twice or passed over. Pure but for the asking.

A cursor holds one of each source. Each is asked for a whole page, which tells how many of it come first; then it is asked
for just so many, and that answer, with its own cursor, is what is shown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from holdfast.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Ask(Protocol):
    """One source: a page of at most `limit` rows after a cursor, and the cursor behind them (empty: that was all)."""

    async def __call__(self, limit: int, cursor: str) -> tuple[Sequence[Any], str]:
        """Ask."""
        ...


async def merged(
    asks: Sequence[Ask], limit: int, cursor: str, *, at: Callable[[Any], float], newest_first: bool = True
) -> tuple[list[Any], str]:
    """Return a page of all sources, and its cursor. Raises ContentError for a cursor that no page gave."""
    cursors = _split(cursor, len(asks))
    pages = await asyncio.gather(*(_page(ask, limit, one) for ask, one in zip(asks, cursors, strict=True)))
    ranked = sorted(
        ((at(item), place) for place, (items, _) in enumerate(pages) for item in items), reverse=newest_first
    )
    shares = [0] * len(asks)
    for _, place in ranked[:limit]:
        shares[place] += 1
    found: list[Any] = []
    after: list[str | None] = list(cursors)
    for place, (share, (items, behind)) in enumerate(zip(shares, pages, strict=True)):
        shown, then = items, behind
        if share < len(items):
            if share == 0:
                continue
            shown, then = await asks[place](share, cursors[place] or "")
        found += shown
        after[place] = then or None
    found.sort(key=at, reverse=newest_first)
    return found, "" if all(one is None for one in after) else msgspec.json.encode(after).decode()


async def _page(ask: Ask, limit: int, cursor: str | None) -> tuple[Sequence[Any], str]:
    return ((), "") if cursor is None else await ask(limit, cursor)


def _split(cursor: str, count: int) -> list[str | None]:
    """Return the cursor of each source; None: it has been shown to its end."""
    if not cursor:
        return [""] * count
    try:
        found = msgspec.json.decode(cursor, type=list[str | None])
    except msgspec.MsgspecError:
        found = []
    if len(found) != count:
        raise ContentError(f"bad page cursor {cursor!r:.80}: pass back the cursor of the page before, unchanged.")
    return found
