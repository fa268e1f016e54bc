"""The processes of the example: a Redis (unless one is given), a node that keeps the jobs, three workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LIMIT_SECONDS = 60.0


@contextmanager
def started(command: list[str], log: IO[bytes], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; end it at the end."""
    process = subprocess.Popen(
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **variables}
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def redis(folder: Path, log: IO[bytes], given: str | None) -> Iterator[str]:
    """Give the URL of a Redis: the one that was given, or one of our own in `folder`."""
    if given:
        yield given
        return
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit(
            "chat: expected redis-server on PATH, found none. Install it, or name a Redis: --redis redis://host"
        )
    path = folder / "redis.sock"
    with started(
        [program, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""], log
    ) as process:
        appears(path, process)
        yield f"unix://{path}"


@contextmanager
def node(data: Path, log: IO[bytes]) -> Iterator[None]:
    """A node that keeps the jobs in a journal, and runs none."""
    command = [sys.executable, "-m", "holdfast", "run", "--data", str(data), "--no-http", "--metrics-port", "0"]
    with started(command, log) as process:
        appears(data / "node.sock", process)
        yield


def appears(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has made `path`."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"chat: expected {path} to appear, found the program ended or silent ({process.args!r}).")
        time.sleep(0.02)
