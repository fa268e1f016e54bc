"""A worker process that is frozen beyond its lease, and wakes up when another has done its job."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.job.state import End, State
from tests.features import feature
from tests.worker_processes import fleet
from tests.worker_processes.box import LIMIT
from tests.worker_processes.conftest import Fleet

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def worker(socket_path: str, lease: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.worker_processes.single", str(lease)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, fleet.SOCKET: socket_path}) as process:
        try:
            yield process
        finally:
            process.kill()


@feature("A6", "T19", "GW3", "TW2", "BW6")
async def test_a_frozen_worker_that_wakes_up_late_is_refused_and_changes_nothing(
    the_fleet: Fleet, socket_path: str
) -> None:
    with worker(socket_path, lease=2.0) as frozen:
        job_id = await the_fleet.enqueue("first.freezes")
        assert await the_fleet.pid_of(job_id) == frozen.pid
        with worker(socket_path, lease=2.0):
            [job] = await the_fleet.ended(job_id)
            assert (job.state, job.result) == (State.SUCCEEDED, b"2")
            assert [attempt.end for attempt in job.attempts] == [End.LOST, End.SUCCEEDED]
            frozen.send_signal(signal.SIGCONT)
            await the_fleet.until(lambda: was_refused(the_fleet, job_id))
            after = await the_fleet.job(job_id)
            assert (after.state, after.result, after.token) == (State.SUCCEEDED, b"2", job.token)
            # It goes on working, for it was only late.
            frozen.terminate()
            assert frozen.wait(LIMIT) == 0


async def was_refused(the_fleet: Fleet, job_id: str) -> bool:
    job = await the_fleet.job(job_id)
    return job.attempts[0].end is End.STALE and (await the_fleet.store.stats()).stale_refused > 0
