"""The hot path, as the port names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from holdfast.errors import OutcomeUnknown, StoreUnavailable
from holdfast.job import commands as c
from holdfast.stores.sql import upkeep
from holdfast.stores.sql.apart import set_apart
from holdfast.stores.sql.cold import control
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.job.model import Job, NewJob
    from holdfast.stores.sql.script import Script, Step

T = TypeVar("T")


class HotCalls(SqlBase):
    """Enqueue, claim, settle, progress, heartbeat, rescue."""

    async def enqueue(
        self, jobs: Iterable[NewJob], *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE
    ) -> Sequence[c.Enqueued]:
        """Store all jobs or none."""
        command = c.Enqueue(jobs=tuple(jobs), on_duplicate=on_duplicate)
        try:
            return await self._write(lambda step: self._hot.enqueue(step, command))
        except OutcomeUnknown as unknown:
            return await self._enqueue_again(command, unknown)

    async def _enqueue_again(self, command: c.Enqueue, unknown: OutcomeUnknown) -> list[c.Enqueued]:
        """Enqueue what may be stored already: as if the ids were ours, so that a stored job is found and not refused."""
        ours = c.Enqueue(
            jobs=tuple(replace(new, own_id=False) for new in command.jobs), on_duplicate=command.on_duplicate
        )
        try:
            answers = await self._write(lambda step: self._hot.enqueue_by_rules(step, ours), repeats=True)
        except StoreUnavailable as away:
            raise unknown from away  # that nothing was stored now says nothing of the first time
        return [
            c.Enqueued(c.Verdict.NEW, one.job)
            if one.verdict is c.Verdict.DUPLICATE and (one.job.task, one.job.payload) == (new.task, new.payload)
            else one
            for one, new in zip(answers, command.jobs, strict=True)
        ]

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs."""
        # Read before the claim: what comes during it is seen by the next wait.
        cursor = self._work.count
        claims = await self._claimed(lambda step: self._hot.claim(step, want))
        self._due = claims.next_due
        return c.Claims(claims.items, cursor, claims.next_due, claims.ownerless)

    async def _claimed(self, claim: Callable[[Step], Script[T]], **how: Any) -> T:
        """Run a script that claims; then set apart what it took and nobody can read."""
        steps: list[Step] = []

        def script(step: Step) -> Script[T]:
            steps[:] = [step]
            return (yield from claim(step))

        claims = await self._write(script, **how)
        if damaged := steps[0].damaged:
            await self._write(lambda step: set_apart(step, damaged))
        return claims

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts, each on its own."""
        # The same settle by the same token is accepted again.
        return await self._write(lambda step: self._hot.settle(step, settlements), repeats=True)

    async def progress(self, reports: Sequence[c.Progress[Job]]) -> list[c.Settled]:
        """Write what running attempts report."""
        return await self._write(lambda step: self._hot.progress(step, reports))

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases; may be called from a thread with a loop of its own."""
        return await self._write(lambda step: upkeep.beat(step, beat), repeats=True)

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote what is due, prune."""
        rescued = await self._go_on(await self._write(lambda step: upkeep.rescue(step, limit), repeats=True))
        await self._tend_figures()
        return rescued

    async def _go_on(self, rescued: c.Rescued) -> c.Rescued:
        """Do a batch of a bulk operation that nobody is at: the process that began it died."""
        unfinished = await self._write(control.go_on)
        return replace(rescued, more=True) if unfinished else rescued

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process, as crashed."""
        return await self._write(lambda step: upkeep.instance_died(step, died))
