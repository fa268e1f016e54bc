"""What must hold after a process died or a database was restored, on any database: `url` names one with our tables."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job import commands as c
from holdfast.job.model import NewJob, OperationState
from holdfast.job.state import State
from tests.sql.core.fleet import LIMIT, ROOT, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from holdfast.job.model import Job
    from holdfast.store import Store

JOBS: Final = 2 * c.OPERATION_BATCH + 100

#: Cancels all jobs, and is killed after the first batch was stored.
_HALFWAY: Final = """
import asyncio, os, signal, sys
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job import commands as c

async def main():
    store = make_store(sys.argv[1], clock=SystemClock())
    await store.open()
    write, done = store._write, []

    async def counted(make, **options):
        answer = await write(make, **options)
        done.append(1)
        if len(done) == 2:  # the operation was begun, its first batch was done
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    store._write = counted
    await store.control(c.Order(action=c.Cancel(why="all"), selection=c.Selection(filter=c.JobFilter()), who="ann"))

asyncio.run(main())
"""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store on the machine's clock."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def an_operation_goes_on_when_its_process_died(url: str, folder: Path) -> None:
    """Any process that rescues finishes what was begun: each job once, and one of several at a time."""
    async with opened(url) as store:
        for start in range(0, JOBS, 1_000):
            some = range(start, min(start + 1_000, JOBS))
            await store.enqueue([NewJob(id=f"job-{number}", task="t") for number in some])
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _HALFWAY, url],
            cwd=ROOT,
            env=environment(url, folder / "effects"),
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == -9
        [left] = await store.operations()
        assert (left.state, left.done) == (OperationState.RUNNING, c.OPERATION_BATCH)
        async with opened(url) as other:
            await asyncio.gather(rescue_all(store), rescue_all(other))
        [operation] = await store.operations()
        assert (operation.state, operation.done, operation.refused) == (OperationState.DONE, JOBS, 0)
        assert (await store.stats()).total(State.CANCELED) == JOBS
        assert not (await store.rescue()).more


async def rescue_all(store: Store) -> None:
    """Rescue as a worker does, until there is nothing more."""
    async with asyncio.timeout(LIMIT):
        while (await store.rescue()).more:
            pass


async def no_token_is_given_twice_after_a_restore(url: str, back_up: Callable[[], Callable[[], None]]) -> None:
    """A worker that claimed after the backup was made is refused when the database was restored.

    back_up: makes a backup of the database, and returns what restores it.
    """
    async with opened(url) as store:
        await store.enqueue([NewJob(id="one", task="t", own_id=True)])
    restore = await asyncio.to_thread(back_up)
    async with opened(url) as store:
        before = await _claim(store, "before")
    await asyncio.to_thread(restore)
    assert (await holdfast("migrate", "--restored", "--json", "--url", url))["epoch"] > 1
    async with opened(url) as store:
        after = await _claim(store, "after")
        assert after.attempt == before.attempt, "the database is that of the backup"
        assert after.token > before.token
        [late] = await store.settle([c.Settlement(before, c.Succeeded(b'"late"'))])
        assert late.accepted is c.Accepted.STALE
        [settled] = await store.settle([c.Settlement(after, c.Succeeded(b'"in time"'))])
        assert settled.accepted is c.Accepted.APPLIED
        [job] = await store.jobs(["one"])
        assert job is not None
        assert job.result == b'"in time"'
    first = after.token >> 32
    assert (await holdfast("migrate", "--restored", "--json", "--url", url))["epoch"] > first, "each restore raises it"
    # The same backup once more, at once: what is enqueued again under the same id has new tokens as well.
    tokens = []
    for _ in range(2):
        await asyncio.to_thread(restore)
        await holdfast("migrate", "--restored", "--json", "--url", url)
        async with opened(url) as store:
            await _claim(store, "once more")
            await store.enqueue([NewJob(id="again", task="t", own_id=True)])
            tokens.append((await _claim(store, "again")).token)
    assert tokens[0] < tokens[1]


async def _claim(store: Store, instance: str) -> c.Claim[Job]:
    want = c.Want(queues=(c.QueueWant("default", 1),), limit=1, instance=instance, worker="w")
    [claim] = (await store.claim(want)).items
    return claim


async def holdfast(*words: str) -> dict[str, int]:
    """Run a command, which must go well; return what it prints as JSON."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "holdfast", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found
