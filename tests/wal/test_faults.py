"""T7 of the test plan: every call of the system fails once, and from then on."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.wal import Options, OsFiles
from tests.features import feature
from tests.wal import faults
from tests.wal.apart import run_apart
from tests.wal.helpers import payloads


@feature("BW13")
def test_whatever_call_fails_nothing_is_acknowledged_wrongly_and_a_restart_is_consistent() -> None:
    found = run_apart("tests.wal.faults", ("--step", "6"), ("--step", "6", "--start", "3"))
    assert [wrong for outcome in found for wrong in outcome["wrong"]] == []
    assert sum(outcome["runs"] for outcome in found) >= 1_000


@pytest.mark.parametrize("error", faults.ERRORS)
def test_a_few_calls_in_this_process(error: int) -> None:
    for call in (5, 60, 171, 255):
        assert faults.attempt(call, error, forever=False)[1] == []


def test_a_disk_that_refuses_everything_from_some_call_of_the_opening_on_is_told_as_ours() -> None:
    for call in range(1, 61):
        assert faults.attempt(call, errno.EIO, forever=True)[1] == []


@pytest.mark.soak
def test_every_call_with_every_error() -> None:
    found = run_apart("tests.wal.faults", ("--step", "2"), ("--step", "2", "--start", "1"))
    assert [wrong for outcome in found for wrong in outcome["wrong"]] == []


SCRIPT = """
import sys
from holdfast.errors import HoldfastError
from holdfast.wal import Options, OsFiles, open_log
acknowledged = 0
try:
    log = open_log(OsFiles(sys.argv[1]), Options(segment_bytes=65536, mark_seconds=0))
    for number in range(200):
        log.wait_synced(log.append([b"%d" % number]))
        acknowledged += 1
    log.close()
except HoldfastError as error:
    print(acknowledged, type(error).__name__)
"""


@pytest.mark.parametrize("when", [5, 8, 31])
def test_the_trace_of_a_real_process_shows_no_second_sync_of_a_failed_descriptor(tmp_path: Path, when: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace, folder = tmp_path / "trace", tmp_path / "journal"
    inject = f"inject=fdatasync:error=EIO:when={when}"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=fdatasync,close", "-e", inject]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(holdfast.__file__))}
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if "INJECTED" not in (trace.read_text() if trace.exists() else ""):
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[-200:]}")
    acknowledged, error = done.stdout.split()
    assert error in ("LogUnknown", "LogFailed", "LogIO")
    assert _synced_after_failure(trace.read_text()) == []
    found = payloads(OsFiles(folder), Options(segment_bytes=65536))
    assert found == [b"%d" % number for number in range(len(found))]
    assert len(found) >= int(acknowledged)


def _synced_after_failure(trace: str) -> list[str]:
    """Descriptors that were synced again, before they were closed, after a sync of them had failed."""
    failed: set[str] = set()
    at_work: dict[str, str] = {}  # thread: the descriptor of the call that it is in
    wrong, failures = [], 0
    for thread, call, known, rest in re.findall(
        r"^(\d+) +(?:<\.\.\. )?(fdatasync|close)(?:\((\d+))?(.*)$", trace, re.MULTILINE
    ):
        handle = known or at_work.get(thread, "")
        at_work[thread] = handle
        if call == "close":
            failed.discard(handle)
        elif "INJECTED" in rest:
            failures += 1
            failed.add(handle)
        elif handle in failed:
            wrong.append(handle)
    assert failures == 1
    return wrong
