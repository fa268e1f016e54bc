"""A process pool with the toy app, and what its handlers told."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from holdfast.clock import SystemClock
from holdfast.worker.context import CancelReason
from holdfast.worker.process import ChildResult, ProcessPool
from tests.worker_processes.toy import call

#: A test that waits longer than this has failed; no test expects to.
LIMIT = 60.0


class Cancel:
    """Tells one attempt to stop, and why."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._reason: CancelReason | None = None

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self, reason: CancelReason = CancelReason.ASKED) -> None:
        self._reason = reason
        self._event.set()

    async def wait(self) -> CancelReason | None:
        await self._event.wait()
        return self._reason


class Box:
    def __init__(self, pool: ProcessPool) -> None:
        self.pool = pool
        self.logged: asyncio.Queue[str] = asyncio.Queue()
        self.progress: list[tuple[bytes, bytes | None]] = []

    async def run(
        self,
        task: str,
        *,
        time_limit: float | None = LIMIT,
        cancel: Cancel | None = None,
        cancel_grace: float = 5.0,
        app: str | None = None,
        **arguments: Any,
    ) -> ChildResult:
        return await self.pool.run(
            call(task, **({"app": app} if app else {}), **arguments),
            time_limit=time_limit,
            on_progress=lambda value, update: self.progress.append((value, update)),
            on_log=lambda line: self.logged.put_nowait(line[2]),
            cancel=cancel or Cancel(),
            cancel_grace=cancel_grace,
        )

    async def told(self) -> list[int]:
        """Wait until a handler has logged; return the process ids that it named."""
        return [int(word) for word in (await asyncio.wait_for(self.logged.get(), LIMIT)).split()]


@asynccontextmanager
async def make_box(max_children: int = 1, **options: Any) -> AsyncIterator[Box]:
    pool = ProcessPool(max_children, clock=SystemClock(), **options)
    try:
        yield Box(pool)
    finally:
        await pool.close()


async def gone(pid: int) -> bool:
    """Wait until no process `pid` runs any more; one that nobody has reaped yet counts as gone."""
    async with asyncio.timeout(LIMIT):
        while is_alive(pid):  # noqa: ASYNC110 - the kernel offers no event for a process that is not our child
            await asyncio.sleep(0.01)
    return True


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


def zombies_of(pid: int) -> list[int]:
    """The ended and unreaped children of process `pid`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state == b"Z" and int(parent) == pid:
            found.append(int(name))
    return found
