"""A program that does one thing to a store at the same time as others: `python -m tests.sql.core.racer URL ROLE GO NUMBER …`.

It says "I am here" by the file GO.NUMBER, begins when the file GO is there, and prints what it did as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import DuplicateJob
from holdfast.job import commands as c
from holdfast.job.model import Instance, NewJob, OnConflict
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.store import Store


async def claims(store: Store, name: str, jobs: str, batch: str = "20") -> Any:
    """Claim and settle until all jobs have ended; say what was claimed: (id, token, attempt), and settles not applied."""
    got, odd = [], []
    chance = random.Random(int(name))
    want = c.Want(queues=(c.QueueWant("race", int(batch)),), limit=int(batch), instance=f"i{name}", worker="racer")
    while True:
        found = (await store.claim(want)).items
        assert len(found) <= int(batch), "more than was asked for"
        got += [(claim.id, claim.token, claim.attempt) for claim in found]
        settlements = [c.Settlement(claim, _ending(claim, chance), 0.001) for claim in found]
        settled = await store.settle(settlements) if settlements else []
        odd += [(one.id, str(one.accepted)) for one in settled if one.accepted is not c.Accepted.APPLIED]
        if not found and (await store.stats()).total(State.SUCCEEDED) >= int(jobs):
            return {"claims": got, "odd": odd}


def _ending(claim: c.Claim[Any], chance: random.Random) -> c.Ending:
    """Most succeed; some fail once and come again at once."""
    if claim.attempt == 1 and chance.random() < 0.1:
        return c.Failed(c.ErrorInfo("no", "no"), retry_in=0.0)
    return c.Succeeded(b"1")


async def uniques(store: Store, name: str, keys: str, rounds: str) -> Any:
    """Enqueue jobs under the same unique keys as all others; say which were new, kept, or refused."""
    verdicts = []
    chance = random.Random(int(name))
    for turn in range(int(rounds)):
        names = [f"key-{number}" for number in range(int(keys))]
        chance.shuffle(names)
        for key in names:
            action, priority = chance.choice(list(OnConflict)), chance.randrange(100)
            job = NewJob(
                id=f"{name}-{turn}-{key}",
                task="t",
                queue="race",
                priority=priority,
                unique=key,
                on_conflict=action,
                own_id=True,
            )
            try:
                [answer] = await store.enqueue([job])
            except DuplicateJob as error:
                verdicts.append(("refused", key, error.taken[key]))
            else:
                verdicts.append((str(answer.verdict), key, answer.id))
    return verdicts


async def windows(store: Store, name: str, keys: str, seconds: str, jobs: str) -> Any:
    """Enqueue under unique keys with a window, and run what is ready at once, until so many jobs have ended; say which were
    new, and which were held to be in somebody's way."""
    want = c.Want(queues=(c.QueueWant("race", 5),), limit=5, instance=f"i{name}", worker="racer")
    new, made = [], 0
    while (await store.stats()).total(State.SUCCEEDED) < int(jobs):
        made += 1
        key = f"key-{made % int(keys)}"
        job = NewJob(
            id=f"{name}-{made}",
            task="t",
            queue="race",
            unique=key,
            unique_window=float(seconds) or None,
            on_conflict=OnConflict.KEEP,
        )
        [answer] = await store.enqueue([job])
        if answer.verdict is c.Verdict.NEW:
            new.append(answer.id)
        found = (await store.claim(want)).items
        await store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in found])
    return new


async def clocks(store: Store, name: str, jobs: str) -> Any:
    """Work while this process's clock is a day ahead, or behind; say what was claimed, and how many claims were lost."""
    set_clock: Any = time.time  # see fleet.race: everybody who asks for the time in this process asks this one
    set_clock.ahead = (0.0, 86_400.0, -86_400.0)[int(name) % 3]
    soon, far = (NewJob(id=f"{kind}-{name}", task="t", queue="race", delay=delay) for kind, delay in _DELAYS.items())
    await store.enqueue([soon, far])
    want = c.Want(queues=(c.QueueWant("race", 3),), limit=3, instance=f"i{name}", worker="racer")
    beat = c.Beat(instance=Instance(id=f"i{name}", worker="racer"))
    got, lost = [], 0
    while (await store.stats()).total(State.SUCCEEDED) < int(jobs):
        claims = await store.claim(want)
        got += [(claim.id, claim.attempt) for claim in claims.items]
        await store.heartbeat(beat)
        lost += (await store.rescue()).lost
        if claims.items:
            await store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in claims.items])
        else:
            await store.wait(["race"], claims.cursor, 0.05)
    return {"claims": got, "lost": lost}


_DELAYS = {"soon": 0.3, "far": 3_600.0}


async def ids(store: Store, name: str, count: str) -> Any:
    """Enqueue jobs under the same ids of their own as all others; say which were new."""
    new = []
    for number in range(int(count)):
        job = NewJob(id=f"own-{number}", task="t", queue="race", own_id=True)
        [answer] = await store.enqueue([job], on_duplicate=c.OnDuplicate.REPORT)
        if answer.verdict is c.Verdict.NEW:
            new.append(answer.id)
    return new


async def keyed(store: Store, name: str, count: str) -> Any:
    """Enqueue jobs of a few keys and run what is ready meanwhile; say which runs were seen, in order, per key."""
    want = c.Want(queues=(c.QueueWant("race", 5),), limit=5, instance=f"i{name}", worker="racer")
    made = 0
    while True:
        if made < int(count):
            await store.enqueue([NewJob(id=f"{name}-{made}", task="t", queue="race", key=f"k{made % 3}")])
            made += 1
        found = (await store.claim(want)).items
        if found:
            # Nobody else may hold one of these keys now: the job says so itself by what it finds running.
            running = await store.find(c.JobFilter(states=(State.RUNNING,)), c.Page(limit=1_000))
            keys = [job.key for job in running.items]
            if len(keys) != len(set(keys)):
                return {"twice": sorted(str(key) for key in keys)}
            await store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in found])
        elif made == int(count):
            stats = await store.stats()
            if not stats.total(State.QUEUED) and not stats.total(State.RUNNING):
                return {"twice": []}


ROLES: dict[str, Callable[..., Awaitable[Any]]] = {
    "claims": claims, "uniques": uniques, "windows": windows, "ids": ids, "keyed": keyed, "clocks": clocks,
}  # fmt: skip


async def main(url: str, role: str, go: str, name: str, *arguments: str) -> None:
    """Open the store, wait for the start, race."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    try:
        Path(f"{go}.{name}").touch()
        while not Path(go).exists():  # noqa: ASYNC110 - a file is what another process can make
            await asyncio.sleep(0.002)
        print(json.dumps(await ROLES[role](store, name, *arguments)))
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
