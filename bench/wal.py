"""The durable log beside bare writes and syncs: what numbering, checksums, evidence and a thread cost."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.report import Figure, interleaved, show
from holdfast.wal import OsFiles, Recovery, open_log

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = os.environ.get(
    "HOLDFAST_BENCH_DIR"
)  # a folder on the disk to measure; else the system's place for temporary files
SECONDS = 0.6  # how long one run writes


def rate(work: Callable[[], None]) -> float:
    """Calls of `work` a second."""
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < SECONDS:
        work()
        count += 1
    return count / passed


def bare(folder: str, size: int) -> float:
    """Appends of `size` bytes to a plain file, each followed by fdatasync, a second."""
    path, data = f"{folder}/bare", os.urandom(size)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def one() -> None:
        os.write(handle, data)
        os.fdatasync(handle)

    try:
        return rate(one)
    finally:
        os.close(handle)
        os.unlink(path)


def logged(folder: str, size: int, count: int) -> float:
    """Groups of `count` frames of `size` bytes a second, each waited for until it is durable."""
    log, data = open_log(OsFiles(f"{folder}/log")), os.urandom(size)

    def one() -> None:
        for _ in range(count - 1):
            log.append([data])
        log.wait_synced(log.append([data]))

    try:
        return rate(one)
    finally:
        log.close()
        shutil.rmtree(f"{folder}/log")


def cpu(folder: str, count: int) -> float:
    """Microseconds of CPU that a group of `count` frames of 200 bytes takes when syncing costs nothing."""
    files = OsFiles(f"{folder}/cpu", sync=lambda handle: None)
    log, data = Recovery.begin(files).serve(threaded=False), os.urandom(200)

    def one() -> None:
        for _ in range(count):
            log.append([data])
        log.pump()

    try:
        begin = time.process_time()
        rounds = max(10, 20_000 // count)
        for _ in range(rounds):
            one()
        return (time.process_time() - begin) / rounds * 1e6
    finally:
        log.close()
        shutil.rmtree(f"{folder}/cpu")


def replayed(folder: str) -> tuple[float, float]:
    """Frames that recovery reads in a second of CPU, and how many there were."""
    files = OsFiles(f"{folder}/replay", sync=lambda handle: None)
    log, data = Recovery.begin(files).serve(threaded=False), os.urandom(200)
    for _ in range(100):
        log.append([data] * 1000)
        log.pump()
    log.close()
    begin = time.process_time()
    recovery = Recovery.begin(files)
    count = sum(1 for _ in recovery.replay())
    passed = time.process_time() - begin
    recovery.close()
    shutil.rmtree(f"{folder}/replay")
    return count / passed, count


def figures(folder: str) -> list[Figure]:
    """All that is measured."""
    found = []
    for size, floor, goal, what in (
        (150, 0.7, 0.85, "one frame of 150 bytes at a time"),
        (20_000, 0.6, 0.85, "one frame of 20 kB (a batch of 100 facts) at a time"),
        (200_000, 0.5, 0.85, "one frame of 200 kB (a batch of 1,000 facts) at a time"),
    ):
        runs = {"bare": partial(bare, folder, size), "log": partial(logged, folder, size, 1)}
        median = interleaved(runs)
        detail = f"{median['log']:,.0f} /s beside {median['bare']:,.0f} bare writes and syncs /s"
        found.append(Figure(what, median["log"] / median["bare"], floor, goal, detail))
    runs = {"one": partial(logged, folder, 150, 1), "many": partial(logged, folder, 150, 100)}
    median = interleaved(runs)
    detail = f"{median['many'] * 100:,.0f} frames/s beside {median['one']:,.0f} /s one by one"
    found.append(Figure("100 frames at once, times one by one", median["many"] * 100 / median["one"], 20, 40, detail))
    median = interleaved({"1": partial(cpu, folder, 1), "1001": partial(cpu, folder, 1001)})
    each = (median["1001"] - median["1"]) / 1000
    found.append(
        Figure("a group without its sync, µs", median["1"], 25, 15, "one frame of 200 bytes", less_is_better=True)
    )
    found.append(Figure("one more frame in a group, µs", each, 5, 3, "append, encode, write", less_is_better=True))
    speed, count = replayed(folder)
    found.append(Figure("replay, frames a microsecond", speed / 1e6, 0.15, 0.3, f"{count:,.0f} frames of 200 bytes"))
    return found


def main() -> int:
    """Measure on a real disk and print the table; 1 if a figure is below its floor."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        return show("wal: the durable log beside bare writes and syncs", figures(folder))


if __name__ == "__main__":
    sys.exit(main())
