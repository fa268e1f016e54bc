"""A pod's heart beats beside the worker's loop: what blocks the one does not stop the other."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from holdfast import Holdfast
from holdfast.clock import SystemClock
from holdfast.connect import make_router
from holdfast.router import PodState
from tests.features import feature
from tests.support.servers import redis

#: Seconds. The worker's lease; and when a broken heart is given up.
LEASE, PATIENCE = 1.5, 60.0
SERVICE: Final = "chat"


@pytest.fixture(params=["memory:", "redis:"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a router."""
    if request.param == "memory:":
        yield "memory:"
        return
    redis.need()
    with redis.RedisServer() as server:
        yield server.url


@feature("S5")
async def test_a_handler_that_blocks_the_loop_does_not_cost_its_pod_the_state(url: str) -> None:
    app = Holdfast(router=url)
    chat = app.sticky(SERVICE)
    published: list[float] = []

    @app.task("block", sticky=chat)
    async def block() -> bool:
        began = time.time()
        seen = threading.Event()
        watcher = threading.Thread(target=_watch, args=(_executor(app, url), began + LEASE, seen), daemon=True)
        watcher.start()
        answer = seen.wait(PATIENCE)  # nothing else runs in this loop meanwhile
        published.append(time.time() - began)
        return answer

    async with app.worker(lease=LEASE):
        job = await block.using(key="user:1").enqueue()
        assert await job.result() is True
    await app.close()
    assert published[0] > LEASE
    assert await _pods(_executor(app, url)) == {}, "a pod that left was published again"


def _executor(app: Holdfast, url: str) -> Any:
    return app.stickies._kept if url == "memory:" else make_router(url, clock=SystemClock())


async def _pods(executor: Any) -> dict[int, PodState]:
    await executor.open()
    found: dict[int, PodState] = await executor.get_service_state("holdfast", SERVICE)
    await executor.close()
    return found


def _watch(executor: Any, after: float, seen: threading.Event) -> None:
    """Tell when the pod has published itself after that time; it must be there all the while."""
    while pods := asyncio.run(_pods(executor)):
        if all(state.updated_at > after for state in pods.values()):
            seen.set()
            return
