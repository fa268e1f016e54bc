"""Reads."""

from __future__ import annotations

import msgspec

from holdfast.job.model import Job
from holdfast.job.state import State


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which part of a list: `limit` rows after `cursor` (opaque, from the page before), in the order of acceptance.

    by_end: of the jobs that have ended, in the order in which they did.
    """

    limit: int = 50
    cursor: str = ""
    newest_first: bool = True
    by_end: bool = False


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
