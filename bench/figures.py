"""What statistics cost the hot path: the same lives of jobs with them switched on and off, in one run, turn by turn."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import Figure, show
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.commands import QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.stores.memory import MemoryStore

if TYPE_CHECKING:
    from holdfast.store import Store

JOBS, BATCH, TURNS = 10_000, 100, 9
WANT = Want(queues=(QueueWant("work", BATCH),), limit=BATCH, instance="bench", worker="bench")


async def life(store: Store, tag: str) -> float:
    """Enqueue, claim and settle JOBS jobs; return the CPU seconds of this process."""
    begin = time.process_time()
    for start in range(0, JOBS, BATCH):
        await store.enqueue([NewJob(id=f"{tag}-{start + n}", task="t", queue="work") for n in range(BATCH)])
    for _ in range(0, JOBS, BATCH):
        claims = await store.claim(WANT)
        await store.settle([Settlement(claim, Succeeded(b"null"), 0.0) for claim in claims.items])
    return time.process_time() - begin


async def cost(name: str, stores: dict[str, Any]) -> Figure:
    """How much longer jobs take with statistics than without."""
    taken: dict[str, list[float]] = {kind: [] for kind in stores}
    for turn in range(TURNS):
        for kind in sorted(stores, reverse=bool(turn % 2)):
            taken[kind].append(await life(stores[kind], f"{kind}{turn}"))
    ratio = statistics.median(taken["on"]) / statistics.median(taken["off"])
    micros = (statistics.median(taken["on"]) - statistics.median(taken["off"])) / JOBS * 1e6
    detail = f"{micros:+.2f} us a job"
    return Figure(f"{name}: a job's life, statistics on / off", ratio, 1.1, 1.05, detail, less_is_better=True)


async def main() -> list[Figure]:
    """Memory, journal and SQLite."""
    figures = []
    memory = {"on": MemoryStore(), "off": MemoryStore()}
    memory["off"].ledger.rollup.enabled = False
    for store in memory.values():
        await store.open()
    figures.append(await cost("memory", memory))
    with tempfile.TemporaryDirectory() as folder:
        clock = SystemClock()
        journals: dict[str, Any] = {}
        for kind in ("on", "off"):
            journals[kind] = make_store(f"journal:{Path(folder) / kind}", clock=clock, role="owner")
            await journals[kind].open()
        journals["off"].ledger.rollup.enabled = False
        figures.append(await cost("journal", journals))
        files: dict[str, Any] = {}
        for kind in ("on", "off"):
            url = f"sqlite:///{Path(folder) / kind}.db"
            files[kind] = make_store(url, clock=clock, statistics=kind == "on")
            await files[kind].open()
        figures.append(await cost("sqlite", files))
        for store in (*journals.values(), *files.values()):
            await store.close()
    return figures


if __name__ == "__main__":
    sys.exit(show("What statistics cost", asyncio.run(main())))
