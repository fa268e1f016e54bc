"""Threads for `def` handlers: the worker's own, one per running job, made on demand, never the loop's default pool.

A thread can be asked to stop, never be made to; so these are daemons, and an abandoned one ends with the process. Answers
come back in batches: a thread wakes the loop only if it is not awake on account of another one already.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context as Variables

# What was returned, or what was raised: a future refuses to hold StopIteration, and SystemExit in one would stop the loop.
Answer = asyncio.Future[tuple[Any, BaseException | None]]
Work = tuple["Callable[[], Any]", "Variables", Answer]


class Threads:
    """As many threads as jobs run in them at the same time; idle ones are used again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._free = 0  # threads that wait for work, less the work that waits for them
        self._made = 0
        self._done: deque[tuple[Answer, Any, BaseException | None]] = deque()
        self._waking = False

    def __len__(self) -> int:
        """How many threads were made."""
        return self._made

    def run(self, call: Callable[[], Any], variables: Variables) -> Answer:
        """Run `call` in a thread under these context variables; the answer (value, error) comes in the loop."""
        answer: Answer = self._loop.create_future()
        self._free -= 1
        self._work.put((call, variables, answer))
        if self._free < 0:
            self._free += 1
            self._made += 1
            threading.Thread(target=self._serve, name=f"holdfast-{self._made}", daemon=True).start()
        return answer

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            call, variables, answer = work
            value, error = variables.run(_call, call)
            self._tell(answer, value, error)
            # An idle thread must not keep the last job's values alive.
            del work, call, variables, answer, value, error

    def _tell(self, answer: Answer, value: Any, error: BaseException | None) -> None:
        self._done.append((answer, value, error))
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                return  # the loop is closed: an abandoned handler has ended after its worker

    def _collect(self) -> None:
        # Cleared before looking: what is appended after the last look wakes the loop again.
        self._waking = False
        while self._done:
            answer, value, error = self._done.popleft()
            self._free += 1
            if not answer.done():
                answer.set_result((value, error))

    def close(self) -> None:
        """Let idle threads end; busy ones end after their job."""
        for _ in range(self._made):
            self._work.put(None)


def _call(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - SystemExit and the rest fail the attempt, never the thread
        return None, error
