"""T9 of the test plan: a real disk that fills up and is freed again, many times."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import StoreFull
from holdfast.wal import Log, LogBusy, Options, OsFiles, open_log
from tests.features import feature
from tests.wal.helpers import payloads, state

OPTIONS = Options(segment_bytes=256 * 1024, reserve_segments=2, retry_seconds=0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of 8 MiB can not be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _ballast(place: Path) -> None:
    """Fill what is left of the disk."""
    with open(place / "ballast", "ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def _until_refused(log: Log, made: list[bytes], *, essential: bool) -> int:
    count = 0
    while True:
        payload = len(made).to_bytes(4, "big") + os.urandom(2000)
        try:
            number = log.append([payload], essential=essential)
        except StoreFull:
            return count
        except LogBusy:
            log.wait_synced(log.accepted)
            continue
        log.wait_synced(number)
        made.append(payload)
        count += 1


def _fill_and_free(small_disk: Path, times: int) -> None:
    files = OsFiles(small_disk / "journal")
    made: list[bytes] = []
    log = open_log(files, OPTIONS)
    for _ in range(times):
        _ballast(small_disk)
        _until_refused(log, made, essential=False)
        assert state(log) in ("full", "read_only")
        # Settling goes on: what is left is the reserve of two segments.
        assert _until_refused(log, made, essential=True) >= 2 * 100
        assert state(log) == "read_only"
        os.unlink(small_disk / "ballast")
        while state(log) != "open":
            log.wait_synced(log.accepted + 1, timeout=0.005)
        if len(made) > 1000:
            log.close()
            assert payloads(files, OPTIONS) == made
            made.clear()
            for name in files.list():
                if name.endswith((".log", "MARK", "FORMAT")):
                    files.unlink(name)
            log = open_log(files, OPTIONS)
    log.close()
    assert payloads(files, OPTIONS) == made


@feature("B57")
def test_a_full_disk_refuses_new_work_settles_from_the_reserve_and_heals_by_itself(small_disk: Path) -> None:
    _fill_and_free(small_disk, 4)


@pytest.mark.soak
def test_a_disk_that_fills_up_two_hundred_times(small_disk: Path) -> None:
    _fill_and_free(small_disk, 200)


def test_a_journal_opens_on_a_full_disk_with_the_room_of_its_own_reserve(small_disk: Path) -> None:
    files = OsFiles(small_disk / "journal")
    log = open_log(files, OPTIONS)
    log.wait_synced(log.append([b"kept"]))
    _ballast(small_disk)
    log.abandon()
    log = open_log(files, OPTIONS)
    assert state(log) == "full"
    log.wait_synced(log.append([b"settled"], essential=True))
    log.close()
    assert payloads(files, OPTIONS) == [b"kept", b"settled"]
