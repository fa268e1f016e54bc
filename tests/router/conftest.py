"""The fixtures of the router's suites: one entry per adapter, and a Redis of the run."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract_router")

from holdfast.clock import ManualClock  # noqa: E402  # asserts are rewritten before they are imported
from holdfast.routers.memory import MemoryExecutor  # noqa: E402
from holdfast.routers.redis import RedisExecutor, open_redis  # noqa: E402
from holdfast.routers.redis.keys import link_key  # noqa: E402
from holdfast.testing.contract_router.harness import RouterHarness  # noqa: E402
from tests.support.servers import redis  # noqa: E402


class MemoryHarness(RouterHarness):
    """In memory, on a steered clock."""

    def __init__(self) -> None:
        clock = ManualClock()
        super().__init__(MemoryExecutor(clock=clock), clock)


class RedisHarness(RouterHarness):
    """On a real Redis, on its own clock."""

    brief = 0.05
    x: RedisExecutor

    def __init__(self, server: redis.RedisServer) -> None:
        super().__init__(open_redis(server.url))
        self.server = server

    async def open(self) -> None:
        """Open on an empty Redis."""
        self.server.ask("FLUSHALL")
        await super().open()

    async def pass_time(self, seconds: float) -> None:
        """Wait until the server's clock is so far."""
        client = self.x._client
        start = await client.call("TIME")
        end = start[0] + start[1] / 1e6 + seconds
        now = start
        while now[0] + now[1] / 1e6 <= end:
            now = await client.call("TIME")

    async def damage(self, ns: str, uid: str, service: str) -> bool:
        """Write something else where the link is."""
        await self.x._client.call("SET", link_key(ns, uid, service), "not ours")
        return True


@pytest.fixture(scope="module")
def redis_server() -> Iterator[redis.RedisServer]:
    """A Redis for the tests of a module; each flushes it first."""
    redis.need()
    with redis.RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def router_factory(request: pytest.FixtureRequest) -> Callable[[], RouterHarness]:
    """How to make a fresh executor."""
    if request.param == "memory":
        return MemoryHarness
    server: redis.RedisServer = request.getfixturevalue("redis_server")
    return lambda: RedisHarness(server)


@pytest.fixture
async def rh(redis_server: redis.RedisServer) -> AsyncIterator[RedisHarness]:
    """A fresh executor on Redis."""
    harness = RedisHarness(redis_server)
    await harness.open()
    yield harness
    await harness.close()
