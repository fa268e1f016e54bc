"""The heart of a pod: says again and again that the pod lives, from a thread with a loop and a connection of its own, so
that a handler that blocks the worker's loop does not cost the pod its keys."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Final

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.router import StatefulExecutor
    from holdfast.sticky.pod import Pod

#: Seconds until a state that could not be published is tried again, at most.
_AGAIN: Final = 1.0
logger: Final = logging.getLogger("holdfast.sticky")


class PodHeart:
    """Publishes a pod each `every` seconds, sooner after a failure. make: an executor for the thread's own loop."""

    def __init__(self, pod: Pod, make: Callable[[], StatefulExecutor], *, every: float) -> None:
        self._pod, self._make, self._every = pod, make, every
        self._poke = threading.Event()
        self._stopping = False

    def start(self) -> None:
        """Begin. The pod was published once, so it has its number."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._run, name="holdfast-pod", daemon=True).start()

    def poke(self) -> None:
        """Publish now: the pod has changed."""
        self._poke.set()

    async def stop(self) -> None:
        """End; afterwards nothing more is published."""
        self._stopping = True
        self._poke.set()
        await asyncio.shield(self._ended)

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except Exception:
            logger.exception("pod %s publishes itself no more: its keys move when its lease ends", self._pod.number)
        finally:
            self._tell_end()

    async def _live(self) -> None:
        executor = self._make()
        try:
            while True:
                wait = self._every if await self._publish(executor) else min(_AGAIN, self._every)
                # The thread has nothing else to do, so its loop may be blocked.
                self._poke.wait(wait)
                self._poke.clear()
                if self._stopping:
                    return
        finally:
            await executor.close()

    async def _publish(self, executor: StatefulExecutor) -> bool:
        try:
            # What hangs must not keep the next one from being tried.
            async with asyncio.timeout(self._every):
                await executor.open()
                await self._pod.publish(executor)
        except (HoldfastError, TimeoutError) as error:
            logger.warning("pod %s could not publish itself: %s", self._pod.number, str(error) or "no answer")
            return False
        return True

    def _tell_end(self) -> None:
        try:
            self._loop.call_soon_threadsafe(_set, self._ended)
        except RuntimeError:
            return  # the worker's loop is closed: nobody waits


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
