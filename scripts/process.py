"""Runs the programs of the environment: output passed on as it comes, a limit in time, nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

# The process groups that run now, for `kill_all`.
_running: Final[set[int]] = set()


class Finished(msgspec.Struct, frozen=True):
    """How a program ended."""

    code: int
    output: str
    timed_out: bool = False


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our variables with the programs of this interpreter's environment first on PATH, and `extra`."""
    programs = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": programs + os.pathsep + os.environ.get("PATH", ""), **extra}


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    limit: float,
    show: Callable[[str], None] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Finished:
    """Run `command` to its end, or for `limit` seconds; then it and all that it started are killed.

    The end is when nobody holds its output any more: a process left behind counts as not ended, and shows as timed out.
    `show` gets the output while it comes, line by line; it is returned in any case, errors and output as one text.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(extra or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        _kill_group(process.pid)

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    lines: list[str] = []
    _running.add(process.pid)
    with process:
        assert process.stdout is not None  # PIPE was asked for
        try:
            for line in process.stdout:
                lines.append(line)
                if show is not None:
                    show(line)
        except BaseException:
            _kill_group(process.pid)
            raise
        finally:
            timer.cancel()
            _running.discard(process.pid)
    return Finished(process.returncode, "".join(lines), expired.is_set())


def kill_all() -> None:
    """Kill whatever other threads run just now, with all that it started."""
    for group in tuple(_running):
        _kill_group(group)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
        os.killpg(group, signal.SIGKILL)
