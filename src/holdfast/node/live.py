"""Live events of a node: what its front door hears becomes events; what other processes do is seen by looking."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import HoldfastError
from holdfast.job.commands import Accepted
from holdfast.telemetry.observer import StoreObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from holdfast.hub.events import Ring
    from holdfast.job.commands import Claims, Enqueued, Order, Ordered, Settled, Settlement, Want
    from holdfast.store import Store
    from holdfast.telemetry.observer import Gone

#: How many jobs of a batch an event names; the counts are of all.
NAMED: Final = 20
#: How often the store is looked at while somebody listens, in seconds.
LOOK: Final = 2.0
logger: Final = logging.getLogger("holdfast.node")


class Live(StoreObserver):
    """Tells `ring` what happens at a store, one event a batch."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def enqueued(self, answers: Sequence[Enqueued]) -> None:
        """Jobs came."""
        jobs = [one.job for one in answers]
        if jobs:
            self._tell("enqueued", ((job.id, job.queue, job.task, job.state) for job in jobs), len(jobs), jobs[0].queue)

    def claimed(self, want: Want, claims: Claims[Any]) -> None:
        """Jobs were handed out."""
        if claims.items:
            rows = ((one.id, one.queue, one.task, "running") for one in claims.items)
            self._tell("claimed", rows, len(claims.items), claims.items[0].queue)

    def settled(self, settlements: Sequence[Settlement[Any]], answers: Sequence[Settled]) -> None:
        """Attempts ended."""
        pairs = [
            (one.claim, answer.state)
            for one, answer in zip(settlements, answers, strict=True)
            if answer.accepted is Accepted.APPLIED
        ]
        if pairs:
            rows = ((claim.id, claim.queue, claim.task, state) for claim, state in pairs)
            states = Counter(str(state) for _, state in pairs)
            self._tell("settled", rows, len(pairs), pairs[0][0].queue, states=dict(states))

    def gone(self, attempts: Sequence[Gone]) -> None:
        """Workers were lost with what they held."""
        rows = ((one.id, one.queue, one.task, one.state) for one in attempts)
        self._tell("lost", rows, len(attempts), attempts[0].queue)

    def ordered(self, order: Order, answer: Ordered) -> None:
        """An operator acted on jobs."""
        if not order.preview:
            action = str(type(order.action).__struct_config__.tag)
            data = {"action": action, "who": order.who, "done": answer.done, "refused": answer.refused}
            self._ring.publish("ordered", data)

    def changed(self, what: str, name: str, who: str) -> None:
        """A queue, task, schedule or worker was changed."""
        self._ring.publish("changed", {"what": what, "name": name, "who": who})

    def _tell(self, kind: str, rows: Iterable[tuple[object, ...]], count: int, queue: str, **more: object) -> None:
        named = [
            {"id": job_id, "queue": queue, "task": task, "state": state}
            for (job_id, queue, task, state), _ in zip(rows, range(NAMED), strict=False)
        ]
        self._ring.publish(kind, {"count": count, "queue": queue, "jobs": named, **more})


@asynccontextmanager
async def looking(ring: Ring, store: Store) -> AsyncIterator[None]:
    """While in the block and while somebody listens, tell the store's counts whenever they have changed."""
    task = asyncio.create_task(_look(ring, store), name="holdfast-live")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _look(ring: Ring, store: Store) -> None:
    told: dict[str, dict[str, int]] = {}
    while True:
        await asyncio.sleep(LOOK)
        if not ring.listeners:
            continue
        try:
            stats = await store.stats()
        except HoldfastError as error:
            logger.debug("the counts were not to be had: %s", error)
            continue
        if stats.queues != told:
            told = stats.queues
            ring.publish("stats", {"queues": told})
