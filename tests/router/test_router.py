"""The router's flow: who has a key, who gets it, and what happens when pods come, drain and die."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest

from holdfast.clock import ManualClock
from holdfast.errors import NoPod, RouterDataError, RouterUnavailable
from holdfast.router import (
    PERMANENT,
    Found,
    Load,
    Owner,
    PodState,
    RoutingState,
    ServiceState,
)
from holdfast.routers.memory import MemoryExecutor
from holdfast.routers.redis.keys import link_key
from holdfast.sticky.router import Route, Router, RouterOptions
from tests.features import feature
from tests.router.conftest import RedisHarness

NS: Final = "holdfast"
SERVICE: Final = "chat"
LEASE: Final = 30.0
DENY, SHUTDOWN = RoutingState.DENY_NEW_CALL, RoutingState.SHUTDOWN


class Watched(MemoryExecutor):
    """Counts look-ups, holds them back when told, and is away when told. A real executor otherwise."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.clock = clock
        self.looked_up: list[str] = []
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.away = False

    async def links(self, ns: str, uids: Sequence[str], service: str) -> dict[str, Found]:
        """Look up, after the gate."""
        self.looked_up += uids
        self.asked.set()
        self._refuse()
        await self.gate.wait()
        return await super().links(ns, uids, service)

    async def get_service_state(self, ns: str, service: str) -> dict[int, PodState]:
        """Read the states."""
        self._refuse()
        return await super().get_service_state(ns, service)

    def _refuse(self) -> None:
        if self.away:
            raise RouterUnavailable("away")

    async def pod(self, pod: int, instance: str = "", **fields: object) -> None:
        """Publish a pod."""
        state = PodState(pod=pod, instance=instance or f"i{pod}", **fields)  # type: ignore[arg-type]  # fields of tests
        await self.set_service_state(NS, SERVICE, state, LEASE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def links(clock: ManualClock) -> Watched:
    return Watched(clock)


@pytest.fixture
async def router(links: Watched, clock: ManualClock) -> AsyncIterator[Router]:
    router = Router(links, clock=clock)
    yield router
    await router.close()


async def pod_of(router: Router, uid: str) -> int:
    """The pod that has a key."""
    return (await router.find(SERVICE, uid)).pod


# --- the flow


@feature("S5", "A27")
async def test_a27_a_key_stays_with_its_pod_while_that_is_routable(router: Router, links: Watched) -> None:
    for pod in range(3):
        await links.pod(pod)
    owners = {f"u{n}": await pod_of(router, f"u{n}") for n in range(30)}
    await links.pod(0, load=4.0)
    await links.pod(1, routing=DENY)
    links.clock.advance(2.0)
    assert {uid: await pod_of(router, uid) for uid in owners} == owners
    links.clock.advance(20.0)
    for pod in range(3):
        await links.pod(pod)
    links.clock.advance(20.0)
    other = Router(links, clock=links.clock)
    assert {uid: await pod_of(other, uid) for uid in owners} == owners


@feature("S5", "A27")
async def test_a27_a_draining_pod_gets_no_new_keys(router: Router, links: Watched) -> None:
    await links.pod(0, routing=DENY)
    await links.pod(1, load=4.0)
    assert {await pod_of(router, f"u{n}") for n in range(20)} == {1}
    await links.pod(1, routing=DENY)
    links.clock.advance(2.0)
    with pytest.raises(NoPod, match="deny_new_call"):
        await router.find(SERVICE, "new")
    assert await pod_of(router, "u0") == 1


@feature("A27")
async def test_a27_new_keys_are_balanced_within_a_tenth_over_pods_of_equal_load(router: Router, links: Watched) -> None:
    for pod in range(7):
        await links.pod(pod)
    found = await router.find_many(SERVICE, [f"u{n}" for n in range(1_000)])
    counts = Counter(route.pod for route in found.values() if isinstance(route, Route))
    assert sum(counts.values()) == 1_000
    assert max(counts.values()) - min(counts.values()) <= 0.1 * 1_000 / 7


@feature("SW7")
async def test_pod_zero_is_chosen_cached_and_kept(router: Router, links: Watched) -> None:
    await links.pod(0)
    assert await pod_of(router, "u") == 0
    assert router.cached(SERVICE, "u") is not None
    assert await pod_of(router, "u") == 0
    assert router.counts.hits == 1


@feature("SW13")
async def test_the_freest_pod_gets_new_keys(router: Router, links: Watched) -> None:
    for pod, load in ((0, 3.0), (1, 1.0), (2, 5.0)):
        await links.pod(pod, load=load)
    assert {await pod_of(router, f"u{n}") for n in range(10)} == {1}


@pytest.mark.parametrize("state", [state for state in ServiceState if state is not ServiceState.READY])
async def test_a_pod_that_is_not_ready_gets_no_keys_and_loses_its_own(
    router: Router, links: Watched, state: ServiceState
) -> None:
    await links.pod(0)
    first = await router.find(SERVICE, "u")
    await links.pod(0, state=state)
    await links.pod(1, load=4.0)
    links.clock.advance(2.0)
    second = await router.find(SERVICE, "u")
    assert second.pod == 1
    assert second.epoch > first.epoch


@feature("SW7")
async def test_without_any_pod_it_is_said_that_there_is_none(router: Router) -> None:
    with pytest.raises(NoPod, match="Start a worker"):
        await router.find(SERVICE, "u")


@feature("S8", "A26", "SW6")
async def test_a26_the_keys_of_a_lost_pod_move_to_good_ones_under_higher_epochs(router: Router, links: Watched) -> None:
    for pod in range(3):
        await links.pod(pod)
    uids = [f"u{n}" for n in range(300)]
    before = {uid: await router.find(SERVICE, uid) for uid in uids}
    links.clock.advance(LEASE - 1)
    for pod in (0, 2):
        await links.pod(pod)
    links.clock.advance(2.0)
    listed = await router.keys(SERVICE, 1)
    assert sorted(listed) == sorted(uid for uid in uids if before[uid].pod == 1)
    assert await router.fail_over(SERVICE, 1) == 100
    assert await router.keys(SERVICE, 1) == []
    after = {uid: await router.find(SERVICE, uid) for uid in uids}
    for uid in uids:
        if before[uid].pod == 1:
            assert after[uid].pod in (0, 2)
            assert after[uid].epoch > before[uid].epoch
        else:
            assert (after[uid].pod, after[uid].epoch) == (before[uid].pod, before[uid].epoch)
    moved = Counter(after[uid].pod for uid in uids if before[uid].pod == 1)
    assert abs(moved[0] - moved[2]) <= 10


async def test_nothing_moves_from_a_live_pod_by_a_fail_over(router: Router, links: Watched) -> None:
    await links.pod(0)
    await links.pod(1)
    before = {f"u{n}": await pod_of(router, f"u{n}") for n in range(10)}
    assert await router.fail_over(SERVICE, 0) == 0
    assert {uid: await pod_of(router, uid) for uid in before} == before


async def test_a_fail_over_without_a_good_pod_says_so_and_leaves_the_links(router: Router, links: Watched) -> None:
    await links.pod(0)
    await router.find(SERVICE, "u")
    links.clock.advance(LEASE + 1)
    with pytest.raises(NoPod):
        await router.fail_over(SERVICE, 0)
    assert await router.keys(SERVICE, 0) == ["u"]


async def test_a_pod_that_restarted_under_its_number_gets_its_keys_again_under_a_higher_epoch(
    router: Router, links: Watched
) -> None:
    await links.pod(0, "first")
    first = await router.find(SERVICE, "u")
    await links.pod(0, "second")
    links.clock.advance(2.0)
    second = await router.find(SERVICE, "u")
    assert (second.pod, second.instance) == (0, "second")
    assert second.epoch > first.epoch


@feature("SW10")
async def test_a_pod_that_came_this_very_second_is_not_called_dead(router: Router, links: Watched) -> None:
    await links.pod(0)
    await router.find(SERVICE, "other")
    await links.pod(1)
    await links.set_linked_pod(NS, "u", SERVICE, Owner(1, "i1"), PERMANENT)
    assert await pod_of(router, "u") == 1


async def test_of_many_routers_that_find_an_owner_dead_one_moves_the_key(links: Watched) -> None:
    await links.pod(0)
    routers = [Router(links, clock=links.clock) for _ in range(20)]
    await routers[0].find(SERVICE, "u")
    links.clock.advance(LEASE + 1)
    for pod in range(1, 5):
        await links.pod(pod)
    found = await asyncio.gather(*(router.find(SERVICE, "u") for router in routers))
    assert len({(route.pod, route.epoch) for route in found}) == 1
    assert sum(router.counts.moved for router in routers) == 1


# --- cache


async def test_a_cached_answer_ends_before_its_link_does(links: Watched) -> None:
    await links.pod(0)
    router = Router(links, RouterOptions(link=20.0), clock=links.clock)
    await router.find(SERVICE, "u")
    route, link = router.cached(SERVICE, "u"), await router.owner(SERVICE, "u")
    assert route is not None
    assert link is not None
    assert link.seconds_left is not None
    assert route.until - links.clock.monotonic() < link.seconds_left
    links.clock.advance(17.0)
    assert router.cached(SERVICE, "u") is None
    assert await router.owner(SERVICE, "u") is not None


@feature("SW13")
async def test_a_cached_owner_that_is_gone_is_not_answered(router: Router, links: Watched) -> None:
    await links.pod(0)
    await router.find(SERVICE, "u")
    await links.remove_service_state(NS, SERVICE, 0)
    await links.pod(1)
    links.clock.advance(2.0)
    assert await pod_of(router, "u") == 1


async def test_concurrent_look_ups_of_one_key_are_one_look_up(router: Router, links: Watched) -> None:
    await links.pod(0)
    links.gate.clear()
    callers = [asyncio.ensure_future(router.find(SERVICE, "u")) for _ in range(50)]
    await links.asked.wait()
    late = [asyncio.ensure_future(router.find(SERVICE, "u")) for _ in range(50)]
    links.gate.set()
    assert len(set(await asyncio.gather(*callers, *late))) == 1
    assert links.looked_up == ["u"]


async def test_a_caller_that_leaves_takes_nothing_from_the_others(router: Router, links: Watched) -> None:
    await links.pod(0)
    links.gate.clear()
    first, second = (asyncio.ensure_future(router.find(SERVICE, "u")) for _ in range(2))
    await links.asked.wait()
    first.cancel()
    links.gate.set()
    assert (await second).pod == 0


async def test_the_cache_is_bounded(links: Watched) -> None:
    await links.pod(0)
    router = Router(links, RouterOptions(cache_max=10), clock=links.clock)
    await router.find_many(SERVICE, [f"u{n}" for n in range(25)])
    assert sum(router.cached(SERVICE, f"u{n}") is not None for n in range(25)) == 10


@feature("SW10")
async def test_while_the_executor_is_away_what_is_known_goes_on_and_then_it_heals(
    router: Router, links: Watched
) -> None:
    await links.pod(0)
    await router.find(SERVICE, "known")
    links.away = True
    links.clock.advance(5.0)
    assert await pod_of(router, "known") == 0
    with pytest.raises(RouterUnavailable):
        await router.find(SERVICE, "unknown")
    links.clock.advance(60.0)
    with pytest.raises(RouterUnavailable):
        await router.find(SERVICE, "known")
    links.away = False
    await links.pod(0)
    assert await pod_of(router, "unknown") == 0


async def test_what_is_known_and_what_is_asked_for_are_counted_for_one_key_and_for_many(
    router: Router, links: Watched
) -> None:
    await links.pod(0)
    await router.find_many(SERVICE, ["a", "b"])
    assert (router.counts.hits, router.counts.misses, router.counts.made) == (0, 2, 2)
    await router.find_many(SERVICE, ["a", "b", "c", "a"])
    await router.find(SERVICE, "c")
    await router.find(SERVICE, "d")
    assert (router.counts.hits, router.counts.misses, router.counts.made) == (3, 4, 4)
    assert links.looked_up == ["a", "b", "c", "d"]


async def test_a_key_that_goes_to_another_incarnation_of_its_pod_counts_as_moved(
    router: Router, links: Watched
) -> None:
    await links.pod(0, "first")
    await router.find(SERVICE, "u")
    await links.pod(0, "second")
    links.clock.advance(2.0)
    await router.find(SERVICE, "u")
    assert (router.counts.made, router.counts.moved) == (1, 1)


# --- steering


async def test_a_key_is_moved_by_hand_to_a_pod_that_is_there(router: Router, links: Watched) -> None:
    await links.pod(0)
    await links.pod(1)
    route = await router.find(SERVICE, "u")
    target = 1 - route.pod
    moved = await router.move(SERVICE, "u", target)
    assert moved.epoch > route.epoch
    assert await pod_of(router, "u") == target
    with pytest.raises(NoPod, match="pod 7"):
        await router.move(SERVICE, "u", 7)


async def test_a_released_key_is_given_to_whoever_is_best_then(router: Router, links: Watched) -> None:
    await links.pod(0)
    first = await router.find(SERVICE, "u")
    await links.pod(0, load=5.0)
    await links.pod(1)
    assert not (await router.release(SERVICE, "u", Owner(1, "i1"))).ok
    assert (await router.release(SERVICE, "u", Owner(0, "i0"))).ok
    assert not (await router.release(SERVICE, "u")).ok
    links.clock.advance(2.0)
    second = await router.find(SERVICE, "u")
    assert second.pod == 1
    assert second.epoch > first.epoch


async def test_a_new_link_of_a_forgotten_key_is_above_the_floor(router: Router, links: Watched) -> None:
    await links.pod(0)
    first = await router.find(SERVICE, "u")
    await router.release(SERVICE, "u")
    floor = first.epoch + 10_000_000_000
    router.forget(SERVICE, "u", floor=floor)
    router.forget(SERVICE, "u", floor=1)
    assert (await router.find(SERVICE, "u")).epoch > floor


# --- on a real Redis


@feature("A25")
async def test_on_redis_a_hundred_concurrent_look_ups_of_ten_keys_agree(rh: RedisHarness) -> None:
    for pod in range(4):
        await rh.x.set_service_state(NS, SERVICE, PodState(pod=pod, instance=f"i{pod}"), LEASE)
    routers = [Router(rh.x) for _ in range(10)]
    found = await asyncio.gather(*(r.find(SERVICE, f"u{n}") for n in range(10) for r in routers))
    for n in range(10):
        assert len({(route.pod, route.epoch) for route in found[n * 10 : n * 10 + 10]}) == 1
    for router in routers:
        await router.close()


async def test_on_redis_one_value_that_is_not_ours_refuses_its_key_and_no_other(rh: RedisHarness) -> None:
    await rh.x.set_service_state(NS, SERVICE, PodState(pod=0, instance="i0"), LEASE)
    await rh.damage(NS, "foreign", SERVICE)
    router = Router(rh.x)
    found = await router.find_many(SERVICE, ["a", "foreign", "b"])
    assert {uid: type(one) for uid, one in found.items()} == {"a": Route, "foreign": RouterDataError, "b": Route}
    assert router.counts.refused == 1
    with pytest.raises(RouterDataError, match="foreign"):
        await router.find(SERVICE, "foreign")
    await rh.x._client.call("DEL", link_key(NS, "foreign", SERVICE))
    assert (await router.find(SERVICE, "foreign")).pod == 0
    await router.close()


# --- load


async def test_a_router_tells_a_services_load(router: Router, links: Watched) -> None:
    await links.pod(0, load=3.5)
    assert (await router.workload(SERVICE)).load is Load.HIGH
