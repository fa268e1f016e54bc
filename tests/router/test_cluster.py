"""The whole contract on a real Redis Cluster of three nodes: keys of one call in one slot, batches over all nodes."""

from collections.abc import Callable, Iterator

import pytest

from holdfast.router import Owner, Want
from holdfast.routers.redis import open_redis
from holdfast.testing.contract_router import RouterContract
from holdfast.testing.contract_router.harness import NS, SERVICE, RouterHarness, link_answer
from tests.features import feature
from tests.router.conftest import RedisHarness
from tests.support.servers import redis

pytestmark = pytest.mark.soak


class ClusterHarness(RedisHarness):
    """On a cluster."""

    def __init__(self, cluster: redis.RedisCluster) -> None:
        RouterHarness.__init__(self, open_redis(cluster.url))
        self.cluster, self.server = cluster, cluster.servers[0]

    async def open(self) -> None:
        """Open on an empty cluster."""
        self.cluster.flush()
        await self.x.open()

    async def pass_time(self, seconds: float) -> None:
        """Wait until a server's clock is so far: all are this machine's."""
        start = await self._now()
        while await self._now() <= start + seconds:
            pass

    async def _now(self) -> float:
        found = await self.x._client.call("TIME")
        node = found if isinstance(found, tuple) else next(iter(found.values()))
        return float(node[0]) + float(node[1]) / 1e6


@pytest.fixture(scope="module")
def cluster() -> Iterator[redis.RedisCluster]:
    """A cluster for the tests of this module."""
    redis.need()
    with redis.RedisCluster() as started:
        yield started


@pytest.fixture
def router_factory(cluster: redis.RedisCluster) -> Callable[[], RouterHarness]:
    """How to make a fresh executor on it."""
    return lambda: ClusterHarness(cluster)


class TestOnACluster(RouterContract):
    pass


@feature("S13", "SW15")
async def test_a_batch_reaches_every_node_and_scripts_are_loaded_on_all(
    router_factory: Callable[[], RouterHarness], cluster: redis.RedisCluster
) -> None:
    harness = router_factory()
    await harness.open()
    try:
        wanted = {f"u{n}": Want(Owner(n % 5)) for n in range(500)}
        made = await harness.x.link_pods(NS, SERVICE, wanted, 600.0)
        assert all(link_answer(answer).ok for answer in made.values())
        assert all(int(server.ask("DBSIZE").removeprefix(":")) > 50 for server in cluster.servers)
        for server in cluster.servers:
            server.ask("SCRIPT", "FLUSH")
        assert len(await harness.x.links(NS, list(wanted), SERVICE)) == 500
        assert len(await harness.x.users_of_pod(NS, SERVICE, 3, limit=1_000)) == 100
    finally:
        await harness.close()
