"""The way in for code without a loop: one thread per process that runs one, made when it is first needed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

#: How often a waiting caller looks whether the loop still runs, in seconds. It is woken by the answer itself.
_LOOK: Final = 1.0
_STOP: Final = 5.0


class Portal:
    """A thread with an event loop. It is a daemon: it never keeps a program from ending."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="holdfast-sync", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the thread."""
        assert self._loop is not None
        return self._loop

    @property
    def alive(self) -> bool:
        """Whether the thread still serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Close the loop, and what lives in it, within a few seconds."""
        if self.alive:
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP)


def run_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in the loop of another thread and return its answer. An interrupt here cancels it there."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        while not concurrent.futures.wait([future], _LOOK).done:
            if not loop.is_running():
                raise UsageError("the event loop that holds the store ended meanwhile. Try again.")
        return future.result()
    except BaseException:
        future.cancel()
        raise


def refuse_in_loop(work: Coroutine[Any, Any, Any]) -> None:
    """Raise UsageError if `work` is no coroutine; also, and close it, if this thread runs a loop: waiting would stop that."""
    given: object = work
    if not inspect.iscoroutine(given):
        raise UsageError(
            f".sync: expected a coroutine of the app, as in app.sync(app.jobs.count()), found {type(given).__name__}. "
            "Call the method inside the parentheses."
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    name = getattr(work, "__qualname__", "the call").split(".")[-1]
    work.close()
    raise UsageError(
        f".sync was called in a thread that runs an event loop, which it would stop. Use the async form: await ….{name}(…). "
        "From a helper without await, call it in a thread: await asyncio.to_thread(…)."
    )
