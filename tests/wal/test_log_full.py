import os
import threading

import pytest

from holdfast.errors import StoreFull
from holdfast.wal import LogUnknown, Options, OsFiles, Recovery
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import Time, fill, payloads, state
from tests.wal.world import SMALL


def test_a_full_disk_refuses_ordinary_appends_first_then_essential_ones_and_heals(open_: Open) -> None:
    clock = Time()
    disk = SimDisk(room=40_000)
    options = Options(segment_bytes=4096, reserve_segments=2, retry_seconds=1.0)
    log = Recovery.begin(disk, options).serve(threaded=False, monotonic=clock)
    accepted: list[bytes] = []

    def until_refused(essential: bool) -> int:
        for count in range(1000):
            payload = b"%d" % len(accepted) + bytes(900)
            try:
                log.append([payload], essential=essential)
            except StoreFull:
                return count
            accepted.append(payload)
            log.pump()
        raise AssertionError("never refused")

    assert until_refused(essential=False) > 0
    assert state(log) == "full"
    assert until_refused(essential=True) >= 8  # two segments of reserve
    assert state(log) == "read_only"
    with pytest.raises(StoreFull):
        log.append([bytes(900)])
    disk.room = 1 << 20
    log.pump()
    assert state(log) == "read_only"  # it looks again when its time has come
    clock.now = 1.5
    log.pump()
    assert state(log) == "open"
    log.append([b"last"])
    accepted.append(b"last")
    log.close()
    assert payloads(disk, options) == accepted


def test_a_segment_that_is_being_taken_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk(room=1 << 20)
    log = Recovery.begin(disk, Options(segment_bytes=4096, reserve_segments=2)).serve(threaded=False, monotonic=Time())
    log.pump()  # makes what is kept ahead
    seen: list[int] = []
    rename = disk.rename

    def looked(old: str, new: str) -> None:
        seen.append(log.health.spares)  # taken already, and the plan not done
        rename(old, new)

    monkeypatch.setattr(disk, "rename", looked)
    log.append([b"x"])
    planned = log.health.spares
    log.rotate()
    log.pump()
    assert seen == [planned - 1]
    log.close()


def test_an_idle_full_log_heals_without_being_asked(folder: OsFiles) -> None:
    refuse = threading.Event()
    refuse.set()
    real = os.posix_fallocate

    def allocate(handle: int, start: int, size: int) -> None:
        if refuse.is_set():
            raise OSError(28, "No space left on device")
        real(handle, start, size)

    files = OsFiles(folder.path)
    Recovery.begin(files, SMALL).serve(threaded=False).close()
    files = OsFiles(folder.path, allocate=allocate)
    refuse.clear()
    log = Recovery.begin(files, Options(segment_bytes=4096, retry_seconds=0.001)).serve()
    refuse.set()
    while state(log) == "open":
        log.wait_synced(log.append([bytes(3000)]))
    refuse.clear()
    for _ in range(60_000):
        if state(log) == "open":
            break
        threading.Event().wait(0.001)
    assert state(log) == "open"
    log.close()


def test_room_that_was_allocated_and_is_refused_is_taken_from_the_reserve(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    fill(log, b"before")
    disk.fail_after(1, 28, "write")
    assert fill(log, b"during") == 2
    assert log.synced == 2
    disk.before = None
    with pytest.raises(StoreFull):
        log.append([b"small"])  # it would fit, but what is left is for what runs
    log.append([b"after"], essential=True)
    log.pump()
    log.close()
    assert payloads(disk) == [b"before", b"during", b"after"]


def test_a_disk_that_refuses_the_reserve_too_is_a_failure(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    fill(log, b"before")
    left = [0]

    def refuse(call: str, name: str) -> None:
        if call == "write" and name.endswith((".log", ".tmp")):
            left[0] += 1
            if left[0] != 2:  # the header of the next segment still goes through
                raise OSError(28, "No space left on device")

    disk.before = refuse
    number = log.append([b"during"])
    log.pump()
    disk.before = None
    with pytest.raises(LogUnknown):
        log.wait_synced(number)
    log.abandon()
    assert payloads(disk) == [b"before"]


def test_a_descriptor_shortage_stops_allocation_but_not_the_log(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    disk.fail_after(1, 24, "create", forever=True)
    fill(log, bytes(3000))
    fill(log, bytes(3000))
    assert state(log) == "full"
    assert "open files" in log.health.problem
    disk.before = None


def test_short_writes_are_continued(disk: SimDisk, open_: Open) -> None:
    disk.short_write = 7
    log = open_(disk)
    fill(log, b"payload" * 20, b"more")
    log.close()
    assert payloads(disk) == [b"payload" * 20, b"more"]
