"""The journal store: durable enqueue, latency of an idle node, and whole lives of jobs, beside what the disk can do bare."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from bench.report import Figure, interleaved, show
from holdfast import Holdfast
from holdfast.job.facts import Added, encode_facts
from holdfast.job.model import Job, NewJob
from holdfast.stores.journal import open_journal
from holdfast.wal import OsFiles, open_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.stores.journal import JournalStore

#: A folder on the disk to measure; else the system's place for temporary files.
PLACE = os.environ.get("HOLDFAST_BENCH_DIR")
PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes
BATCH = 1_000
BATCHED, SINGLE, CONCURRENT = 60_000, 2_000, 20_000
CALLERS = 100
LIVES = 100_000
SAMPLES = 1_000
ROUNDS = 3


def jobs(tag: str, count: int) -> list[NewJob]:
    """Jobs to enqueue."""
    return [NewJob(id=f"{tag}-{n:08d}", task="mail.welcome", payload=PAYLOAD) for n in range(count)]


def on_store(work: Callable[[JournalStore], Awaitable[int]]) -> Callable[[], float]:
    """What `work` does in a second on a fresh journal."""

    async def run() -> float:
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            store = open_journal(f"{folder}/data", snapshot_interval=0)
            await store.open()
            begin = time.perf_counter()
            count = await work(store)
            passed = time.perf_counter() - begin
            await store.close()
            return count / passed

    return lambda: asyncio.run(run())


async def in_batches(store: JournalStore) -> int:
    """One producer, a thousand jobs a call."""
    for n in range(BATCHED // BATCH):
        await store.enqueue(jobs(f"b{n}", BATCH))
    return BATCHED


async def one_by_one(store: JournalStore) -> int:
    """One producer, one job a call."""
    for job in jobs("s", SINGLE):
        await store.enqueue([job])
    return SINGLE


async def by_many(store: JournalStore) -> int:
    """A hundred producers, one job a call."""
    waiting = iter(jobs("c", CONCURRENT))

    async def produce() -> None:
        for job in waiting:
            await store.enqueue([job])

    await asyncio.gather(*[produce() for _ in range(CALLERS)])
    return CONCURRENT


# --- anchors -------------------------------------------------------------------------------------------------------


def bare_frames() -> float:
    """Jobs a second that are encoded in groups of a thousand, checksummed, written and synced, and nothing else."""
    facts = [Added(Job(seq=n, id=job.id, task=job.task, payload=PAYLOAD)) for n, job in enumerate(jobs("f", BATCH))]
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        log = open_log(OsFiles(folder), threaded=False)
        begin = time.perf_counter()
        for _ in range(BATCHED // BATCH):
            log.append([encode_facts(facts)])
            log.pump()
        passed = time.perf_counter() - begin
        log.close()
    return BATCHED / passed


def bare_syncs() -> float:
    """Appends of 300 bytes to a plain file, each followed by fdatasync, a second."""
    with tempfile.NamedTemporaryFile(dir=PLACE, buffering=0) as file:
        data, begin = os.urandom(300), time.perf_counter()
        for _ in range(SINGLE):
            file.write(data)
            os.fdatasync(file.fileno())
        return SINGLE / (time.perf_counter() - begin)


def handed_syncs() -> float:
    """The same from an event loop that never syncs itself: handed to a waiting thread, and back."""
    import threading
    from queue import SimpleQueue

    async def run() -> float:
        loop, asked = asyncio.get_running_loop(), SimpleQueue[Any]()

        def write() -> None:
            while (answer := asked.get()) is not None:
                file.write(data)
                os.fdatasync(file.fileno())
                loop.call_soon_threadsafe(answer.set_result, None)

        with tempfile.NamedTemporaryFile(dir=PLACE, buffering=0) as file:
            data = os.urandom(300)
            thread = threading.Thread(target=write)
            thread.start()
            begin = time.perf_counter()
            for _ in range(SINGLE):
                answer = loop.create_future()
                asked.put(answer)
                await answer
            passed = time.perf_counter() - begin
            asked.put(None)
            thread.join()
            return SINGLE / passed

    return asyncio.run(run())


def bare_engine(group: int = 100) -> float:
    """Jobs a second of an engine that has no rules: three records a job, a frame and a sync per group of each, a dict."""
    encode = msgspec.msgpack.Encoder().encode
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        log = open_log(OsFiles(folder), threaded=False)
        table: dict[int, tuple[Any, ...]] = {}
        ready: deque[int] = deque()

        def written(records: list[tuple[Any, ...]]) -> None:
            log.append([encode(records)])
            log.pump()

        begin = time.perf_counter()
        for start in range(0, LIVES, group):
            added = [(1, seq, f"id-{seq:08d}", "nothing", PAYLOAD) for seq in range(start, start + group)]
            written(added)
            table.update((record[1], record) for record in added)
            ready.extend(record[1] for record in added)
            claimed = [(2, ready.popleft(), start, "worker") for _ in range(group)]
            written(claimed)
            written([(3, record[1], start, b"null") for record in claimed])
            for record in claimed:
                del table[record[1]]
        passed = time.perf_counter() - begin
        log.close()
    return LIVES / passed


# --- with a worker -------------------------------------------------------------------------------------------------


def whole_lives() -> float:
    """No-op async jobs a second through the public API, from the first enqueue to the last settle."""

    async def run() -> float:
        folder = tempfile.mkdtemp(dir=PLACE)
        app, done, all_done = Holdfast(f"journal:{folder}/data"), 0, asyncio.Event()

        @app.task("nothing")
        async def nothing() -> None:
            nonlocal done
            done += 1
            if done == LIVES:
                all_done.set()

        begin = time.perf_counter()
        async with app.worker(queues={"default": 100}):
            for _ in range(0, LIVES, BATCH):
                await nothing.enqueue_many([()] * BATCH)
            await all_done.wait()
        # Leaving the worker waits for its last settles.
        passed = time.perf_counter() - begin
        await app.close()
        shutil.rmtree(folder)
        return LIVES / passed

    return asyncio.run(run())


async def latencies() -> list[float]:
    """Milliseconds from the call of enqueue to the start of the handler, on a node with nothing else to do."""
    folder = tempfile.mkdtemp(dir=PLACE)
    app, started = Holdfast(f"journal:{folder}/data"), asyncio.Queue[float]()

    @app.task("nothing")
    async def nothing() -> None:
        started.put_nowait(time.perf_counter())

    found = []
    async with app.worker():
        for _ in range(SAMPLES):
            begin = time.perf_counter()
            await nothing.enqueue()
            found.append((await started.get() - begin) * 1e3)
            await asyncio.sleep(0.002)
    await app.close()
    shutil.rmtree(folder)
    return found


# --- figures -------------------------------------------------------------------------------------------------------


def enqueues() -> list[Figure]:
    """Durable enqueue."""
    median = interleaved(
        {
            "batches": on_store(in_batches),
            "frames": bare_frames,
            "single": on_store(one_by_one),
            "syncs": bare_syncs,
            "handed": handed_syncs,
            "many": on_store(by_many),
        },
        ROUNDS,
    )
    single, many = median["single"], median["many"]
    return [
        Figure(
            "enqueue in batches of 1,000 / bare frames",
            median["batches"] / median["frames"],
            0.12,
            0.15,
            f"{median['batches']:,.0f} / {median['frames']:,.0f} jobs/s",
        ),
        Figure("100 concurrent / one sequential", many / single, 6, 8, f"{many:,.0f} / {single:,.0f} jobs/s"),
        Figure(
            "one sequential / bare writes and syncs",
            single / median["syncs"],
            0.4,
            0.85,
            f"{single:,.0f} / {median['syncs']:,.0f} per second",
        ),
        Figure(
            "one sequential / syncs handed to a thread",
            single / median["handed"],
            0.6,
            0.85,
            f"{single:,.0f} / {median['handed']:,.0f} per second",
        ),
    ]


def nodes() -> list[Figure]:
    """With a worker."""
    median = interleaved({"lives": whole_lives, "engine": bare_engine}, ROUNDS)
    found = sorted(asyncio.run(latencies()))
    middle, high = statistics.median(found), found[len(found) * 99 // 100]
    detail = f"{SAMPLES:,} jobs, one at a time"
    return [
        Figure(
            "whole lives / bare engine, groups of 100, three syncs",
            median["lives"] / median["engine"],
            0.1,
            0.35,
            f"{median['lives']:,.0f} / {median['engine']:,.0f} jobs/s",
        ),
        Figure("idle node, enqueue to start, p50 ms", middle, 1.5, 1.0, detail, less_is_better=True),
        Figure("idle node, enqueue to start, p99 ms", high, 10.0, 5.0, detail, less_is_better=True),
    ]


if __name__ == "__main__":
    sys.exit(show("journal: durable enqueue, latency, whole lives", [*enqueues(), *nodes()]))
