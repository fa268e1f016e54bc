"""A real node in a process of its own, and a real `kill -9`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

START_LIMIT_SECONDS = 30.0


class Node:
    """`holdfast run examples.demo.tasks:app` on a data folder."""

    def __init__(self, data: Path, log: Path) -> None:
        """`data` holds the journal; `log` gets what the node says."""
        self._data, self._log = data, log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Start it; return the seconds until it was ready to serve. Raises RuntimeError if it does not come up."""
        begin = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "holdfast", "run", "examples.demo.tasks:app"),
                *("--data", str(self._data), "--port", "0", "--workers", "8"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "HOLDFAST_METRICS_PORT": "0"},
            )
        await asyncio.wait_for(self._ready(self._process), START_LIMIT_SECONDS)
        return time.perf_counter() - begin

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if line.strip() == b"ready":
                return
        raise RuntimeError(f"the node did not start; it said:\n{self._log.read_text()}")

    async def kill(self) -> int:
        """Kill it as a power cut would: no signal handler runs. Return its pid."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        return self._process.pid

    async def stop(self) -> None:
        """Let it drain and end."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
