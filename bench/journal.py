"""The journal store: durable enqueue, latency of an idle node, and whole lives of jobs, beside what the disk can do bare.

The anchors know nothing of our log: a plain file, one frame (length and CRC) for each event, one write and one fdatasync for
each group. Beside them stands what our own log does without a store, which is faster; that is shown and promises nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from bench.report import Figure, interleaved, show
from holdfast import Holdfast
from holdfast.job.facts import Added
from holdfast.job.model import Job, NewJob
from holdfast.stores.journal import open_journal
from holdfast.wal import OsFiles, open_log
from holdfast.wal.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.stores.journal import JournalStore

#: A folder on the disk to measure; else the system's place for temporary files.
PLACE = os.environ.get("HOLDFAST_BENCH_DIR")
PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes
BATCH = 1_000
BATCHED, SINGLE, CONCURRENT = 20_000, 500, 10_000  # short, and so close to its anchor in time
CALLERS = 100
LIVES = 100_000
SAMPLES = 1_000
ROUNDS, ROUNDS_OF_LIVES = 15, 5
_HEAD = Struct("<II")


def jobs(tag: str, count: int) -> list[NewJob]:
    """Jobs to enqueue."""
    return [NewJob(id=f"{tag}-{n:08d}", task="mail.welcome", payload=PAYLOAD) for n in range(count)]


def on_store(
    work: Callable[[JournalStore, list[NewJob]], Awaitable[None]], tag: str, count: int
) -> Callable[[], float]:
    """How many of `count` jobs, made before, `work` does in a second on a fresh journal."""

    async def run() -> float:
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            store = open_journal(f"{folder}/data", snapshot_interval=0)
            await store.open()
            given = jobs(tag, count)
            begin = time.perf_counter()
            await work(store, given)
            passed = time.perf_counter() - begin
            await store.close()
            return count / passed

    return lambda: asyncio.run(run())


async def in_batches(store: JournalStore, given: list[NewJob]) -> None:
    """One producer, a thousand jobs a call."""
    for at in range(0, len(given), BATCH):
        await store.enqueue(given[at : at + BATCH])


async def one_by_one(store: JournalStore, given: list[NewJob]) -> None:
    """One producer, one job a call."""
    for job in given:
        await store.enqueue([job])


async def by_many(store: JournalStore, given: list[NewJob]) -> None:
    """A hundred producers, one job a call."""
    waiting = iter(given)

    async def produce() -> None:
        for job in waiting:
            await store.enqueue([job])

    await asyncio.gather(*[produce() for _ in range(CALLERS)])


# --- anchors -------------------------------------------------------------------------------------------------------


class PlainFile:
    """Groups of events appended to a plain file: a frame for each event, a write and a sync for each group."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(dir=PLACE, buffering=0)  # noqa: SIM115 - closed by `close`
        self._encode = msgspec.msgpack.Encoder().encode

    def append(self, events: list[Any]) -> None:
        parts: list[bytes] = []
        for event in events:
            data = self._encode(event)
            parts += (_HEAD.pack(len(data), crc32(data)), data)
        self._file.write(b"".join(parts))
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class OwnLog:
    """The same in our own log, without a store: a frame for each group."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=PLACE)
        self._log = open_log(OsFiles(self._folder.name), threaded=False)
        self._encode = msgspec.msgpack.Encoder().encode

    def append(self, events: list[Any]) -> None:
        self._log.append([self._encode(events)])
        self._log.pump()

    def close(self) -> None:
        self._log.close()
        self._folder.cleanup()


def bare_frames(make: Callable[[], PlainFile | OwnLog] = PlainFile) -> float:
    """Jobs a second that are encoded as the journal stores them and written in groups of a thousand, and nothing else."""
    now = time.time()
    facts = [
        Added(Job(n, job.id, job.task, payload=PAYLOAD, run_at=now, created_at=now, queued_at=now, updated_at=now))
        for n, job in enumerate(jobs("f", BATCH))
    ]
    file = make()
    begin = time.perf_counter()
    for _ in range(BATCHED // BATCH):
        file.append(facts)
    passed = time.perf_counter() - begin
    file.close()
    return BATCHED / passed


def bare_syncs() -> float:
    """Appends of 300 bytes to a plain file, each followed by fdatasync, a second."""
    with tempfile.NamedTemporaryFile(dir=PLACE, buffering=0) as file:
        data, begin = os.urandom(300), time.perf_counter()
        for _ in range(SINGLE):
            file.write(data)
            os.fdatasync(file.fileno())
        return SINGLE / (time.perf_counter() - begin)


def bare_hand_over() -> float:
    """The same from an event loop that never syncs itself: handed to a waiting thread, and back, by a byte in a pipe each."""

    async def run() -> float:
        loop, asked, told, answers = asyncio.get_running_loop(), Bell(), Bell(), list[asyncio.Future[None]]()

        def write() -> None:
            for _ in range(SINGLE):
                asked.wait(None)
                file.write(data)
                os.fdatasync(file.fileno())
                told.ring()

        def answer() -> None:
            told.hush()
            answers.pop().set_result(None)

        with tempfile.NamedTemporaryFile(dir=PLACE, buffering=0) as file:
            data = os.urandom(300)
            thread = threading.Thread(target=write)
            thread.start()
            loop.add_reader(told.handle, answer)
            begin = time.perf_counter()
            for _ in range(SINGLE):
                answers.append(loop.create_future())
                asked.ring()
                await answers[0]
            passed = time.perf_counter() - begin
            thread.join()
            loop.remove_reader(told.handle)
            asked.close()
            told.close()
            return SINGLE / passed

    return asyncio.run(run())


def bare_engine(make: Callable[[], PlainFile | OwnLog] = PlainFile, group: int = 100) -> float:
    """Jobs a second of an engine that has no rules: three events a job, three syncs a group, a dict and a deque."""
    file = make()
    table: dict[int, tuple[Any, ...]] = {}
    ready: deque[int] = deque()
    begin = time.perf_counter()
    for start in range(0, LIVES, group):
        added = [(1, seq, f"id-{seq:08d}", "nothing", PAYLOAD) for seq in range(start, start + group)]
        file.append(added)
        table.update((record[1], record) for record in added)
        ready.extend(record[1] for record in added)
        claimed = [(2, ready.popleft(), start, "worker") for _ in range(group)]
        file.append(claimed)
        file.append([(3, record[1], start, b"null") for record in claimed])
        for record in claimed:
            del table[record[1]]
    passed = time.perf_counter() - begin
    file.close()
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


def compared(
    name: str, ours: float, anchor: float, demanded: float, unit: str = "jobs/s", *, only_shown: bool = False
) -> Figure:
    """A ratio of two rates. What is demanded is the floor."""
    detail = f"{ours:,.0f} / {anchor:,.0f} {unit}"
    return Figure(name, ours / anchor, demanded, demanded, detail, only_shown=only_shown)


def enqueues() -> list[Figure]:
    """Durable enqueue."""
    median = interleaved(
        {
            "batches": on_store(in_batches, "b", BATCHED),
            "frames": bare_frames,
            "own frames": lambda: bare_frames(OwnLog),
            "single": on_store(one_by_one, "s", SINGLE),
            "syncs": bare_syncs,
            "handed": bare_hand_over,
            "many": on_store(by_many, "c", CONCURRENT),
        },
        ROUNDS,
    )
    batches, single = median["batches"], median["single"]
    return [
        compared("enqueue in batches of 1,000 / bare frames", batches, median["frames"], 0.15),
        compared("the same / our own log", batches, median["own frames"], 0.0, only_shown=True),
        compared("100 concurrent / one sequential", median["many"], single, 8),
        # The loop must not sync, so a hand-over there and back belongs to each answer: docs/adr/0007.
        compared("one sequential / bare hand-over", single, median["handed"], 0.85, "per second"),
        compared(
            "one sequential / bare writes and syncs", single, median["syncs"], 0.85, "per second", only_shown=True
        ),
        compared(
            "bare hand-over / bare writes and syncs",
            median["handed"],
            median["syncs"],
            0.85,
            "per second",
            only_shown=True,
        ),
    ]


def nodes() -> list[Figure]:
    """With a worker."""
    median = interleaved(
        {"lives": whole_lives, "engine": bare_engine, "own engine": lambda: bare_engine(OwnLog)},
        ROUNDS_OF_LIVES,
    )
    found = sorted(asyncio.run(latencies()))
    middle, high = statistics.median(found), found[len(found) * 99 // 100]
    detail = f"{SAMPLES:,} jobs, one at a time"
    return [
        compared("whole lives / bare engine, groups of 100, three syncs", median["lives"], median["engine"], 0.35),
        compared("the same / our own log", median["lives"], median["own engine"], 0.0, only_shown=True),
        Figure("idle node, enqueue to start, p50 ms", middle, 1.0, 1.0, detail, less_is_better=True),
        Figure("idle node, enqueue to start, p99 ms", high, 5.0, 5.0, detail, less_is_better=True),
    ]


if __name__ == "__main__":
    sys.exit(show("journal: durable enqueue, latency, whole lives", [*enqueues(), *nodes()]))
