"""A program whose workers are told to stop at every point of their dialogue with a store: `python -m tests.sql.core.signalled
URL POINTS`. For each point and each kind of signal one worker begins, gets a real signal there, and ends; what came of it is
printed as JSON: the exit codes, how many jobs were left running, and how often each job was begun.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from typing import Any, Final

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.worker.options import WorkerOptions
from holdfast.worker.signals import install_signals
from holdfast.worker.worker import Worker
from tests.worker.rig import Functions

#: Name, the signals, and how many boundaries lie between the first and the second.
KINDS: Final = {
    "term": (signal.SIGTERM,),
    "int": (signal.SIGINT,),
    "double": (signal.SIGTERM, signal.SIGINT),
}
_DIALOGUE: Final = frozenset({"claim", "settle", "heartbeat", "rescue", "progress", "wait"})
_JOBS: Final = 4
#: So many points are gone through; then they are begun anew, each time with other jobs and other batches.
_POINTS: Final = 50

functions = Functions()
began: Counter[str] = Counter()


@functions.task
async def note(number: str) -> None:
    """Count the run, and give others a turn."""
    began[number] += 1
    await asyncio.sleep(0.001)


class Signalling:
    """The store: each call has two points. The first signal comes at the `at`-th, the second at the next."""

    def __init__(self, store: Any, at: int, signals: tuple[signal.Signals, ...], prefix: str) -> None:
        self._store, self._at, self._signals, self._prefix = store, at, list(signals), prefix
        self._points = self.made = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._watched(name, found) if name in _DIALOGUE else found

    def _watched(self, name: str, call: Any) -> Any:
        async def watched(*args: Any, **more: Any) -> Any:
            if name == "wait" and self._signals:
                await self.add(1)  # so that the dialogue goes on until the point comes
            self._pass()
            answer = await call(*args, **more)
            self._pass()
            return answer

        return watched

    def _pass(self) -> None:
        self._points += 1
        if self._signals and self._points >= self._at:
            os.kill(os.getpid(), self._signals.pop(0))

    async def add(self, count: int) -> None:
        """Enqueue more jobs."""
        names = [f"{self._prefix}-{self.made + place}" for place in range(count)]
        self.made += count
        await self._store.enqueue(
            [NewJob(id=name, task="note", payload=b'{"number":"%s"}' % name.encode()) for name in names]
        )


async def main(url: str, points: int) -> dict[str, Any]:
    """Stop a worker at each point, in each way, and let one run what these have left."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    # The jobs are counted at the end, and a long run ends more of them than a queue keeps unless it is told to.
    await store.change_queue(c.ChangeQueue(name="default", create=True, keep_succeeded_count=1_000_000))
    codes, running = Counter[int](), 0
    for kind, signals in KINDS.items():
        for number in range(points):
            source = Signalling(store, number % _POINTS + 1, signals, f"{kind}-{number}")
            await source.add(_JOBS)
            worker = Worker(source, functions, WorkerOptions(queues={"default": 2}, lease=600.0))
            with install_signals(worker.stop):
                codes[await worker.run()] += 1
            running += (await store.stats()).total(State.RUNNING)
        codes[await work_off(store)] += 1
    stats = await store.stats()
    await store.close()
    succeeded = stats.total(State.SUCCEEDED)
    return {
        "codes": codes,
        "running": running,
        "succeeded": succeeded,
        "failed": stats.total(State.FAILED),
        "began": began,
    }


async def work_off(store: Any) -> int:
    """Run all that is left; return the worker's exit code."""
    worker = Worker(store, functions, WorkerOptions(queues={"default": 10}))
    task = asyncio.create_task(worker.run())
    while _unfinished(await store.stats()):  # noqa: ASYNC110 - what other workers left
        await asyncio.sleep(0.01)
    worker.stop()
    return await task


def _unfinished(stats: Any) -> int:
    return sum(stats.total(state) for state in (State.QUEUED, State.RUNNING, State.SCHEDULED, State.RETRYING))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
