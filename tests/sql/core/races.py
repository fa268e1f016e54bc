"""Promises that must hold however many processes do the same at the same time, on any database: `url` names an empty one."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.model import NewJob
from holdfast.job.state import State
from tests.sql.core.fleet import race

if TYPE_CHECKING:
    from pathlib import Path


async def each_job_is_claimed_once_an_attempt(
    url: str, folder: Path, *, racers: int, jobs: int, batch: int = 20
) -> None:
    """No attempt is handed out twice, tokens grow, and every settle of a holder is accepted."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    for start in range(0, jobs, 1_000):
        some = range(start, min(start + 1_000, jobs))
        await store.enqueue([NewJob(id=f"job-{number}", task="t", queue="race") for number in some])
    said = race(url, folder, "claims", racers, jobs, batch)
    stats = await store.stats()
    found = [job for job in await store.jobs([f"job-{number}" for number in range(jobs)]) if job is not None]
    await store.close()
    assert stats.total(State.SUCCEEDED) == jobs
    claims = [tuple(claim) for one in said for claim in one["claims"]]
    attempts = Counter((job_id, attempt) for job_id, _, attempt in claims)
    assert max(attempts.values()) == 1, "an attempt was handed out twice"
    assert [one["odd"] for one in said] == [[]] * racers
    tokens: dict[str, list[int]] = defaultdict(list)
    for job_id, token, _ in sorted(claims, key=lambda claim: claim[2]):
        tokens[job_id].append(token)
    assert all(held == sorted(set(held)) for held in tokens.values()), "tokens do not grow"
    assert {job.id: job.attempt for job in found} == {job_id: len(held) for job_id, held in tokens.items()}
    assert all([one.number for one in job.attempts] == list(range(1, job.attempt + 1)) for job in found)


async def a_unique_key_has_one_holder(url: str, folder: Path, *, racers: int, keys: int = 10, rounds: int = 5) -> None:
    """Of all who enqueue under a key one is the first, and all others are told which it was."""
    said = race(url, folder, "uniques", racers, keys, rounds)
    holders: dict[str, set[str]] = defaultdict(set)
    new: Counter[str] = Counter()
    for verdict, key, job_id in (one for verdicts in said for one in verdicts):
        holders[key].add(job_id)
        new[key] += verdict == "new"
    assert new == {f"key-{number}": 1 for number in range(keys)}
    assert all(len(found) == 1 for found in holders.values()), "two jobs were told to hold one key"
    store = make_store(url, clock=SystemClock())
    await store.open()
    assert (await store.stats()).total(State.QUEUED) == keys
    await store.close()


async def a_window_has_one_job(url: str, folder: Path, *, racers: int) -> None:
    """While a key's window is open there is one job of it, though it has ended; the window is as long for all."""
    said = race(url, folder, "windows", racers, 5, 3_600, 5)
    assert len([job_id for new in said for job_id in new]) == 5


async def an_unfinished_job_keeps_its_key(url: str, folder: Path, *, racers: int, jobs: int = 60) -> None:
    """Jobs of a unique key follow each other: none was stored before the one that held the key had ended."""
    said = race(url, folder, "windows", racers, 3, 0, jobs)
    ids = sorted(job_id for new in said for job_id in new)
    store = make_store(url, clock=SystemClock())
    await store.open()
    found = [job for job in await store.jobs(ids) if job is not None]
    await store.close()
    assert len(found) == len(ids) >= jobs
    for key in {job.unique for job in found}:
        line = sorted((job for job in found if job.unique == key), key=lambda job: job.seq)
        for earlier, later in pairwise(line):
            assert earlier.finished_at is not None, f"{earlier.id} had not ended when {later.id} was stored"
            assert earlier.finished_at <= later.created_at


async def the_clocks_of_workers_change_nothing(url: str, folder: Path, *, jobs: int = 60) -> None:
    """Workers a day ahead and a day behind: no lease ends early, nothing is due before its time."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    await store.enqueue([NewJob(id=f"job-{number}", task="t", queue="race") for number in range(jobs)])
    said = race(url, folder, "clocks", 3, jobs + 3)
    wanted = {f"job-{number}": 1 for number in range(jobs)} | {f"soon-{name}": 1 for name in range(3)}
    assert Counter(job_id for one in said for job_id, _ in one["claims"]) == wanted
    assert {attempt for one in said for _, attempt in one["claims"]} == {1}
    assert [one["lost"] for one in said] == [0, 0, 0]
    for job in await store.jobs([f"far-{name}" for name in range(3)]):
        assert job is not None
        assert job.state is State.SCHEDULED
        assert abs(job.run_at - job.created_at - 3_600.0) < 0.001
        assert abs(job.created_at - store.now()) < 600.0, "it was dated by the worker's clock"
    await store.close()


async def an_own_id_is_taken_once(url: str, folder: Path, *, racers: int, count: int = 100) -> None:
    """Of all who enqueue under an id one is the first."""
    said = race(url, folder, "ids", racers, count)
    assert Counter(job_id for new in said for job_id in new) == {f"own-{number}": 1 for number in range(count)}


async def a_key_never_runs_twice_at_once(url: str, folder: Path, *, racers: int, count: int = 60) -> None:
    """Jobs of a key run one at a time and in order of acceptance, while all produce and all run them."""
    said = race(url, folder, "keyed", racers, count)
    assert said == [{"twice": []}] * racers
    store = make_store(url, clock=SystemClock())
    await store.open()
    ids = [f"{racer}-{number}" for racer in range(racers) for number in range(count)]
    jobs = [job for job in await store.jobs(ids) if job is not None]
    await store.close()
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    for key in {job.key for job in jobs}:
        line = sorted((job for job in jobs if job.key == key), key=lambda job: job.seq)
        began = [job.last.started_at for job in line if job.last is not None]
        assert began == sorted(began), "a job of the key overtook an earlier one"
