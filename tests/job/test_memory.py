"""A job costs the garbage collector nothing, and finished or future jobs cost a claim nothing."""

import gc

from holdfast.job import commands as c
from holdfast.job.model import Job, NewJob
from tests.job.histories import ERROR, Life

COUNT = 10_000


def tracked_after(life: Life) -> int:
    """Count what the collector follows."""
    life.groups.clear()
    life.claims.clear()
    gc.collect()
    return len(gc.get_objects())


def enqueue(life: Life, count: int, first: int = 0, delay: float | None = None) -> None:
    """Enqueue plain jobs, without keeping the answers."""
    for start in range(first, first + count, 1_000):
        numbers = range(start, start + 1_000)
        jobs = [NewJob(id=f"x{n}", task="t", queue="a", payload=b"[1]", delay=delay) for n in numbers]
        life.do(c.Enqueue(jobs=tuple(jobs)))


def claim(life: Life, count: int) -> list[c.Claim[Job]]:
    """Claim so many jobs."""
    return list(life.do(c.Want(queues=(c.QueueWant("a", count),), limit=count, instance="i", worker="w")).items)


def test_the_collector_follows_no_job_whatever_its_state() -> None:
    life = Life(1)
    enqueue(life, 1_000)
    for n, taken in enumerate(claim(life, 900)):
        endings: tuple[c.Ending, ...] = (
            c.Succeeded(b"1"),
            c.Failed(ERROR, retryable=False),
            c.Snoozed(1e6),
            c.Failed(ERROR, retry_in=1e6),
        )
        if n % 5 < 4:
            life.do(c.SettleAll((c.Settlement(taken, endings[n % 5]),)))
    before = tracked_after(life)
    enqueue(life, COUNT, first=1_000)
    enqueue(life, COUNT, first=1_000 + COUNT, delay=1e6)
    for taken in claim(life, COUNT // 2):
        life.do(c.SettleAll((c.Settlement(taken, c.Succeeded(b"1", update=b'{"n":1}')),)))
    del taken
    grown = tracked_after(life) - before
    assert grown < COUNT // 100, f"{grown} objects more are followed for {2 * COUNT} jobs more"
