"""Real signals to real processes."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import UsageError
from holdfast.worker.signals import install_signals
from tests.features import feature

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Process:
    """A worker process and what it says."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child
        self.said: list[str] = []

    def wait_for(self, text: str) -> None:
        """Read until a line has `text`."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.said.append(line.strip())
            if text in line:
                return
        pytest.fail(f"the process ended without saying {text!r}; it said {self.said}")

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def go(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write("go\n")
        self.child.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and the states of its jobs."""
        assert self.child.stdout is not None
        self.said += [line.strip() for line in self.child.stdout]
        code = self.child.wait(PATIENCE)
        return code, next((line.removeprefix("states: ") for line in self.said if line.startswith("states: ")), "")


@contextmanager
def started(task: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.worker.process_main", task]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as child:
        watchdog = threading.Timer(PATIENCE, child.kill)
        watchdog.start()
        try:
            yield Process(child)
        finally:
            watchdog.cancel()
            child.kill()


@feature("T20")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_running_jobs_finish_and_claims_no_more(number: signal.Signals) -> None:
    with started("patient") as process:
        process.wait_for("running")
        process.send(number)
        process.wait_for("worker: draining")
        process.go()
        assert process.end() == (0, "succeeded queued")


def test_the_second_signal_cancels_the_handlers_and_gives_their_jobs_back() -> None:
    with started("cancellable") as process:
        process.wait_for("running")
        process.send(signal.SIGTERM)
        process.wait_for("worker: draining")
        process.send(signal.SIGTERM)
        process.wait_for("cancelled: drain")
        assert process.end() == (0, "queued queued")


def test_the_third_signal_ends_the_process_although_a_handler_blocks_the_loop() -> None:
    with started("blocks_the_loop") as process:
        process.wait_for("running")
        # Signals that come close together count as one, so they are sent until the process is gone.
        while process.child.poll() is None:
            process.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.child.wait(0.05)
        assert process.end()[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize("task", ["never_stops", "never_stops_in_a_thread"])
def test_too_many_handlers_that_never_stop_end_the_process_with_code_75(task: str) -> None:
    with started(task) as process:
        process.wait_for("running")
        code, states = process.end()
        assert code == 75
        assert states.split()[0] == "retrying"


async def test_signals_are_refused_outside_of_the_main_thread() -> None:
    def install() -> None:
        async def inside() -> None:
            with install_signals(lambda: None):
                pass

        asyncio.run(inside())

    with pytest.raises(UsageError, match="main thread"):
        await asyncio.to_thread(install)


async def test_the_former_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with install_signals(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
