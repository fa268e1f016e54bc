"""Journals to test with: on the simulated disk, and in a real folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.wal import Files, Log, Options, OsFiles, Recovery
from tests.wal.disk import SimDisk
from tests.wal.world import SMALL, still

Open = Callable[..., Log]


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk()


@pytest.fixture
def folder(tmp_path: Path) -> OsFiles:
    return OsFiles(tmp_path / "journal")


@pytest.fixture
def open_(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens journals, and lets go of those that the test leaves open."""
    logs: list[Log] = []

    def open_one(files: Files, options: Options = SMALL, *, threaded: bool = False) -> Log:
        log = Recovery.begin(files, options).serve(threaded=threaded, monotonic=still)
        logs.append(log)
        return log

    yield open_one
    for log in logs:
        log.abandon()
