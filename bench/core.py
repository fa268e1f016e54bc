"""The ledger under load: what one job costs, and that a million others beside it cost nothing. Also the import."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

from bench.report import Figure, interleaved, show
from holdfast.job.commands import QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.stores.memory import MemoryStore

JOBS = 20_000
OTHERS = 1_000_000
BATCH = 500
WANT = Want(queues=(QueueWant("work", BATCH),), limit=BATCH, instance="bench")


async def life(store: MemoryStore, tag: str) -> float:
    """Enqueue, claim and settle JOBS jobs; return the CPU seconds this took."""
    begin = time.process_time()
    for start in range(0, JOBS, BATCH):
        await store.enqueue([NewJob(id=f"{tag}-{start + n}", task="t", queue="work") for n in range(BATCH)])
    for _ in range(0, JOBS, BATCH):
        claims = await store.claim(WANT)
        await store.settle([Settlement(claim, Succeeded(b"null"), 0.0) for claim in claims.items])
    return time.process_time() - begin


async def crowded(kind: str) -> MemoryStore:
    """A store with a million finished, or future, jobs."""
    store = MemoryStore()
    await store.open()
    delay = 86_400.0 if kind == "future" else None
    for start in range(0, OTHERS, 10_000):
        await store.enqueue([NewJob(id=f"o{start + n}", task="t", queue="other", delay=delay) for n in range(10_000)])
        if kind == "finished":
            for _ in range(10_000 // BATCH):
                claims = await store.claim(Want(queues=(QueueWant("other", BATCH),), limit=BATCH, instance="bench"))
                await store.settle([Settlement(claim, Succeeded(b"null"), 0.0) for claim in claims.items])
    return store


async def growth() -> list[Figure]:
    """What a job costs beside a million others, against an empty store."""
    stores = {"empty": MemoryStore(), "finished": await crowded("finished"), "future": await crowded("future")}
    await stores["empty"].open()
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for turn in range(5):
        for name, store in stores.items():
            taken[name].append(await life(store, f"{name}{turn}") / JOBS * 1e6)
    median = {name: statistics.median(values) for name, values in taken.items()}
    return [
        Figure(
            f"cost of a job beside 1,000,000 {kind} jobs / beside none",
            median[kind] / median["empty"],
            1.3,
            1.1,
            f"{median[kind]:.1f} µs / {median['empty']:.1f} µs of CPU in the store",
            less_is_better=True,
        )
        for kind in ("finished", "future")
    ]


def started(code: str) -> float:
    """Seconds that a fresh Python takes for `code`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def importing() -> Figure:
    """What `import holdfast` adds to the start of Python."""
    median = interleaved({"bare": lambda: started("pass"), "ours": lambda: started("import holdfast")}, rounds=9)
    added = (median["ours"] - median["bare"]) * 1e3
    detail = f"{median['ours'] * 1e3:.0f} ms with, {median['bare'] * 1e3:.0f} ms without"
    return Figure("import holdfast, ms over bare Python", added, 150, 100, detail, less_is_better=True)


if __name__ == "__main__":
    sys.exit(show("core: ledger and import", [importing(), *asyncio.run(growth())]))
