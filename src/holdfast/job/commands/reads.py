"""Reads."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.job.model import Job
from holdfast.job.state import State

#: How far back a search by text looks unless it is told, in seconds.
SEARCH_WINDOW: Final = 86_400.0
#: At how many jobs one page of it looks, at most.
SCAN_MAX: Final = 10_000


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which part of a list: `limit` rows after `cursor` (opaque, from the page before), in the order of acceptance.

    by_end: of the jobs that have ended, in the order in which they did. scan: at how many jobs a search by text looks for
    this page; one that has looked at so many has fewer rows than `limit`, perhaps none, and a cursor that goes on.
    """

    limit: int = 50
    cursor: str = ""
    newest_first: bool = True
    by_end: bool = False
    scan: int = SCAN_MAX


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a list, and the cursor of the next page (empty: this was the last)."""

    items: tuple[Job, ...]
    cursor: str = ""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts per queue and state; every state is there, zero-filled."""

    queues: dict[str, dict[str, int]]
    stale_refused: int = 0
    oldest_ready_at: dict[str, float] = {}

    def total(self, state: State) -> int:
        """Jobs in `state` over all queues."""
        return sum(counts[state] for counts in self.queues.values())
