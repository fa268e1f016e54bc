"""The hot path, as the port names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.job import commands as c
from holdfast.stores.sql import upkeep
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Job, NewJob


class HotCalls(SqlBase):
    """Enqueue, claim, settle, progress, heartbeat, rescue."""

    async def enqueue(
        self, jobs: Sequence[NewJob], *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE
    ) -> list[c.Enqueued]:
        """Store all jobs or none."""
        command = c.Enqueue(jobs=tuple(jobs), on_duplicate=on_duplicate)
        return await self._write(lambda step: self._hot.enqueue(step, command))

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs."""
        # Read before the claim: what comes during it is seen by the next wait.
        cursor = self._work.count
        claims = await self._write(lambda step: self._hot.claim(step, want))
        self._due = claims.next_due
        return c.Claims(claims.items, cursor, claims.next_due)

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts, each on its own."""
        return await self._write(lambda step: self._hot.settle(step, settlements))

    async def progress(self, reports: Sequence[c.Progress[Job]]) -> list[c.Settled]:
        """Write what running attempts report."""
        return await self._write(lambda step: self._hot.progress(step, reports))

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases; may be called from a thread with a loop of its own."""
        return await self._write(lambda step: upkeep.beat(step, beat))

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote what is due, prune."""
        return await self._write(lambda step: upkeep.rescue(step, limit))

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process, as crashed."""
        return await self._write(lambda step: upkeep.instance_died(step, died))
