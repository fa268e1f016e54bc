"""One of several schedulers on one store, in a process of its own: `python -m tests.schedule.contender KIND PLACE SECONDS`.

All of them hold each next tick to be due at once, so that they fight for every single one. It says "ready" when its store is
open, waits for a line, so that all begin together, says "begun" when it has looked once, and ends when no schedule is left to
fire.
"""

import asyncio
import sys

from holdfast.chance import IdMaker
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import StoreUnavailable
from holdfast.job.model import ScheduleStatus
from holdfast.schedule.scheduler import Scheduler
from holdfast.store import Store
from holdfast.worker.hooks import Alarm
from holdfast.worker.timing import LoopTiming
from tests.support.socket_store import SocketStore


def opened(kind: str, place: str) -> Store:
    if kind == "socket":
        return SocketStore(place)
    return make_store(place, clock=SystemClock(), **({"role": "client"} if kind == "client" else {}))


async def contend(store: Store) -> None:
    clock = SystemClock()
    new_id = IdMaker(clock.now)
    alarm = Alarm(None, asyncio.get_running_loop())
    at = [0.0]
    store.now = lambda: at[0]  # type: ignore[method-assign]  # the time is up for each tick as soon as it is next
    scheduler = Scheduler(
        store, new_id=new_id, alarm=alarm, timing=LoopTiming(clock), draw=lambda: 0.5, monotonic=clock.monotonic
    )
    print("ready", flush=True)
    sys.stdin.readline()
    is_first = True
    while True:
        left = [one for one in await store.schedules() if one.status is ScheduleStatus.ACTIVE]
        if left:
            at[0] = min(one.next_run_at for one in left if one.next_run_at is not None)
            await scheduler.run_once()
        if is_first:
            print("begun", flush=True)
            is_first = False
        if not left:
            return


async def main(kind: str, place: str) -> None:
    store = opened(kind, place)
    await store.open()
    try:
        await contend(store)
    except StoreUnavailable as error:
        print(f"lost the store: {error}", file=sys.stderr)
        raise
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
