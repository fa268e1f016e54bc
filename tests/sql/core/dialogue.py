"""What a producer and a worker say to a store in the life of one job, repeated as they repeat it when the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from holdfast.errors import OutcomeUnknown, StoreUnavailable
from holdfast.job import commands as c
from holdfast.job.model import Instance, InstanceState, Job, NewJob
from holdfast.store import Store

T = TypeVar("T")
AWAY: Final = (OutcomeUnknown, StoreUnavailable)
#: Seconds for which a call is repeated. Nothing takes so long unless it is broken.
LIMIT: Final = 60.0


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the store answers."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await call()
            except AWAY:
                await asyncio.sleep(0.01)


def want(queue: str, instance: str, limit: int = 10) -> c.Want:
    return c.Want(queues=(c.QueueWant(queue, limit),), limit=limit, instance=instance, worker="w")


def beat(instance: str) -> c.Beat:
    return c.Beat(instance=Instance(id=instance, worker="w", state=InstanceState.READY))


async def life(store: Store, job_id: str, queue: str) -> list[c.Settled]:
    """Enqueue a job, claim it, beat for it and settle it, as often as it takes; return what the settles were answered.

    A claim whose reply was lost is found by the beat, and given back.
    """
    instance = f"i-{job_id}"
    new = NewJob(id=job_id, task="t", queue=queue, payload=b'"' + b"x" * 200 + b'"')
    [stored] = await insist(lambda: store.enqueue([new]))
    assert stored.id == job_id
    settled: list[c.Settled] = []
    while not any(one.accepted is not c.Accepted.STALE for one in settled):
        claims = await insist(lambda: store.claim(want(queue, instance)))
        held = await insist(lambda: store.heartbeat(beat(instance)))
        known = {claim.token: claim for claim in claims.items}
        for one in held.held:
            if one.token not in known:
                await insist(lambda one=one: store.settle([given_back(one)]))  # type: ignore[misc]
        for claim in claims.items:
            settlement = c.Settlement(claim, c.Succeeded(b'"done"'), 0.01)
            settled += await insist(lambda one=settlement: store.settle([one]))  # type: ignore[misc]
    return settled


def given_back(one: c.Held) -> c.Settlement[Any]:
    """What a worker says of a claim that it does not know."""
    claim: c.Claim[Any] = c.Claim(None, one.id, "", "", one.token, 0, 0.0, one.ref)
    return c.Settlement(claim, c.Released("its reply was lost", counted=False))


async def ended_well(store: Store, ids: list[str]) -> list[Job]:
    """Return these jobs, all of which must have succeeded once."""
    jobs = [job for job in await store.jobs(ids) if job is not None]
    assert [job.id for job in jobs] == ids, "jobs were lost"
    assert {str(job.state) for job in jobs} == {"succeeded"}
    assert {job.result for job in jobs} == {b'"done"'}
    return jobs
