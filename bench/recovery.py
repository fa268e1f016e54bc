"""What a large journal costs: recovery, memory, the loop's lag while a snapshot is made. Each in a fresh process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import Figure, interleaved, show
from holdfast.job.commands import QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.stores.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.stores.journal import JournalStore

#: A folder on the disk to measure; else the system's place for temporary files.
PLACE = os.environ.get("HOLDFAST_BENCH_DIR")
PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes
BATCH = 1_000
FEW, MANY = 100_000, 1_000_000
MIB = 1024 * 1024


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def enqueue(store: JournalStore, count: int, tag: str = "j") -> None:
    """Enqueue `count` jobs of 100 bytes."""
    for start in range(0, count, BATCH):
        ids = (f"0190f0aa-{tag}-7ccc-{start + n:016d}" for n in range(BATCH))
        await store.enqueue([NewJob(id=job_id, task="mail.welcome", payload=PAYLOAD) for job_id in ids])


# --- what the fresh processes do -----------------------------------------------------------------------------------


async def fill(folder: str, count: int) -> dict[str, float]:
    """Make a journal of live jobs; a snapshot of it; watch the loop meanwhile."""
    store = open_journal(folder, snapshot_interval=0)
    await store.open()
    before = resident()
    await enqueue(store, count)
    memory = (resident() - before) / count
    lags: list[float] = []
    watching = asyncio.create_task(watch(lags))
    trickling = asyncio.create_task(trickle(store))
    assert store._keeper is not None
    folded = await asyncio.to_thread(store._keeper.take)
    for task in (watching, trickling):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await store.close()
    return {"memory": memory, "lag": max(lags) * 1e3, "seconds": folded.seconds, "size": folded.size}


async def watch(lags: list[float]) -> None:
    """Note how late the loop comes back, a thousand times a second."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - begin - 0.001)


async def trickle(store: JournalStore) -> None:
    """A little work beside it, so that there is something to keep waiting."""
    for n in range(1 << 40):
        await store.enqueue([NewJob(id=f"trickle-{n}", task="mail.welcome", payload=PAYLOAD)])
        await asyncio.sleep(0.002)


async def reopen(folder: str) -> dict[str, float]:
    """Open a journal."""
    before = resident()
    store = open_journal(folder, snapshot_interval=0)
    begin = time.perf_counter()
    await store.open()
    seconds = time.perf_counter() - begin
    jobs = len(store.ledger.table)
    found = {"seconds": seconds, "jobs": jobs, "memory": (resident() - before) / jobs}
    await store.close()
    return found


async def churn(folder: str, count: int) -> dict[str, float]:
    """Enqueue, claim, settle and prune `count` jobs; how much memory the second half adds."""
    store = open_journal(folder)
    await store.open()
    halves = []
    for half in range(2):
        for turn in range(count // 2 // BATCH):
            await enqueue(store, BATCH, f"{half}{turn:05d}")
            want = Want(queues=(QueueWant("default", BATCH),), limit=BATCH, instance="i", worker="w")
            claims = (await store.claim(want)).items
            await store.settle([Settlement(claim, Succeeded(b"null"), 0.0) for claim in claims])
            await store.rescue()
        halves.append(resident())
    jobs = len(store.ledger.table)
    await store.close()
    return {"growth": halves[1] - halves[0], "jobs": jobs}


WORKS: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {"fill": fill, "reopen": reopen, "churn": churn}


def apart(work: str, *arguments: Any) -> dict[str, float]:
    """Do one of WORKS in a fresh process."""
    command = [sys.executable, "-m", "bench.recovery", work, *map(str, arguments)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


# --- figures -------------------------------------------------------------------------------------------------------


def figures(folder: str) -> list[Figure]:
    """All that is measured."""
    found = []
    for name, count, floor, goal in (("few", FEW, 2.0, 1.0), ("many", MANY, 15.0, 10.0)):
        data = f"{folder}/{name}"
        filled = apart("fill", data, count)
        memory = {"live": filled["memory"], "recovered": 0.0}

        def opened(data: str = data, memory: dict[str, float] = memory) -> float:
            told = apart("reopen", data)
            memory["recovered"] = told["memory"]
            return told["seconds"]

        median = interleaved({"open": partial(opened)}, 3)
        what = f"{count:,} live jobs"
        size = f"snapshot of {filled['size'] / MIB:.0f} MiB, made in {filled['seconds']:.1f} s"
        found.append(Figure(f"recovery of {what}, s", median["open"], floor, goal, size, less_is_better=True))
        found += [
            Figure(
                f"memory of {what}, {kind}, KiB each", used / 1024, 2.0, 1.5, "payload 100 bytes", less_is_better=True
            )
            for kind, used in memory.items()
        ]
        lag = f"while a snapshot of {what} is made"
        found.append(
            Figure(f"worst lag of the loop, {count:,} jobs, ms", filled["lag"], 50, 20, lag, less_is_better=True)
        )
    churned = apart("churn", f"{folder}/churn", MANY)
    detail = f"from 500,000 to 1,000,000 jobs with retention; {churned['jobs']:,.0f} kept"
    found.append(Figure("growth of memory, MiB", churned["growth"] / MIB, 20, 5, detail, less_is_better=True))
    return found


def main(arguments: list[str]) -> int:
    """Measure; or, with arguments, be one of the fresh processes."""
    if arguments:
        work, *rest = arguments
        numbers = [int(value) if value.isdecimal() else value for value in rest]

        async def done() -> dict[str, float]:
            return await WORKS[work](*numbers)

        told = asyncio.run(done())
        print(json.dumps(told))
        return 0
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        return show("recovery: a large journal", figures(folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
