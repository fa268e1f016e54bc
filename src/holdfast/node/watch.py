"""Looks at the store of a node again and again, and says in the log when it begins and when it ceases to refuse work."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from holdfast.node.about import failure_of, problem_of, state_of

if TYPE_CHECKING:
    from holdfast.store import Store

logger: Final = logging.getLogger("holdfast.node")

LOOK_EVERY: Final = 1.0  # seconds


class Watch:
    """Watches `store` while somebody waits in `until`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state = ""

    async def until(self, over: asyncio.Event) -> str:
        """Return when `over` is set, or else when the store has failed for good: then why it has."""
        waiting = asyncio.create_task(over.wait())
        try:
            while not (await asyncio.wait((waiting,), timeout=LOOK_EVERY))[0]:
                self.look()
                if failure := failure_of(self._store):
                    return failure
        finally:
            waiting.cancel()
        return ""

    def look(self) -> None:
        """Say what has changed since the last look. A failure for good is told by whoever ends because of it."""
        state = state_of(self._store)
        if state == self._state or state in ("failed", "closed"):
            return
        before, self._state = self._state, state
        if state == "full":
            logger.error("the store refuses new jobs; what runs is still settled. %s", problem_of(self._store))
        elif state:
            logger.error("the store takes nothing more, and so is only read: %s", problem_of(self._store))
        else:
            logger.warning("the store takes new jobs again; it was %s", before.replace("_", " "))
