"""Stop queues for good: pause them over the whole fleet, and wait until nothing of them runs.

A queue that is paused hands out nothing, so what runs can only become less. A claim that was under way at the moment of the
pause may still be granted: the last look is taken a moment later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import UnknownQueue
from holdfast.job.commands import ChangeQueue
from holdfast.job.ids import check_name
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.store import Store

    Watcher = Callable[[Mapping[str, int]], None]

#: How long after the pause the last look is taken at the earliest, in seconds: longer than any claim takes.
_UNDER_WAY: Final = 0.25
#: The shortest and the longest pause between two looks, in seconds.
_FIRST, _LONGEST = 0.05, 1.0
#: Looking takes at most one part in so many of the time, however long the queues are.
_SHARE: Final = 5.0


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a stop. queues: which are paused now. running: queue -> how many of its jobs still run, if any."""

    queues: tuple[str, ...]
    running: dict[str, int]

    @property
    def done(self) -> bool:
        """Whether nothing of these queues runs any more."""
        return not self.running


async def stop_queues(
    store: Store, names: Sequence[str], *, timeout: float | None, why: str, who: str, watch: Watcher = lambda _: None
) -> Stopped:
    """Pause these queues, or all that there are, and wait until nothing of them runs, at most `timeout` seconds.

    `watch` is told how many jobs run whenever that has changed. Raises UnknownQueue before anything is paused.
    """
    chosen = await _chosen(store, names)
    for name in chosen:
        await store.change_queue(ChangeQueue(name=name, paused=True, why=why, who=who))
    loop = asyncio.get_running_loop()  # real seconds, also under a steered clock: a caller waits for real
    paused_at = loop.time()
    running: dict[str, int] | None = None
    pause = _FIRST
    while True:
        began = loop.time()
        found = await _running(store, chosen)
        if found != running:
            running, pause = found, _FIRST
            watch(found)
        now = loop.time()
        if not found and began - paused_at >= _UNDER_WAY:
            break
        if timeout is not None and now - paused_at >= max(timeout, _UNDER_WAY):
            break
        await asyncio.sleep(_next_pause(max(pause, (now - began) * _SHARE), timeout, now - paused_at))
        pause = min(pause * 1.5, _LONGEST)
    return Stopped(queues=chosen, running=found)


def _next_pause(pause: float, timeout: float | None, passed: float) -> float:
    """Return the seconds until the next look: the last one is at the end of the time."""
    return pause if timeout is None else min(pause, max(max(timeout, _UNDER_WAY) - passed, 0.001))


async def _chosen(store: Store, names: Sequence[str]) -> tuple[str, ...]:
    known = {queue.name for queue in await store.queues()}
    for name in names:
        if check_name(name, "queue") not in known:
            raise UnknownQueue(name)
    return tuple(dict.fromkeys(names)) or tuple(sorted(known))


async def _running(store: Store, names: Sequence[str]) -> dict[str, int]:
    counts = (await store.stats()).queues
    return {name: number for name in names if (number := counts.get(name, {}).get(State.RUNNING.value, 0))}
