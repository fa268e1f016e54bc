"""States of pods and services."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import ContentError
from holdfast.router import Load, PodState, RoutingState, ServiceState, WorkloadState
from holdfast.testing.contract_router.harness import NS, SERVICE, RouterHarness, RouterSuite, feature

#: A state that has waited this long counts in no choice of these tests, in seconds.
OLD = 60.0


class States(RouterSuite):
    """States."""

    @feature("S1", "S2", "SW8")
    async def test_a_published_state_comes_back_whole(self, h: RouterHarness) -> None:
        state = PodState(
            pod=0,
            instance="i|0".replace("|", "-"),
            state=ServiceState.TERMINATING,
            routing=RoutingState.DENY_NEW_CALL,
            load=2.5,
            weight=3,
            metadata={"zone": "a|b", "größe": "ü"},
        )
        await h.x.set_service_state(NS, SERVICE, state, h.long)
        [found] = (await h.x.get_service_state(NS, SERVICE)).values()
        assert found.updated_at > 0
        assert 0 < found.expires_at - found.updated_at <= h.long
        shown = PodState(
            **{
                name: getattr(found, name)
                for name in found.__struct_fields__
                if name not in ("updated_at", "expires_at")
            }
        )
        assert shown == state

    @feature("S2")
    async def test_all_pods_are_read_by_number_and_an_unknown_service_has_none(self, h: RouterHarness) -> None:
        for pod in (10, 2, 0):
            await h.pod(pod)
        assert list(await h.x.get_service_state(NS, SERVICE)) == [0, 2, 10]
        assert await h.x.get_service_state(NS, "unknown") == {}

    @feature("SW9")
    async def test_a_state_ends_with_its_lease_unless_it_is_renewed(self, h: RouterHarness) -> None:
        await h.pod(0, lease=h.brief)
        await h.pod(1, lease=h.brief)
        await h.pod(1, lease=h.long)
        await h.pass_time(h.brief * 1.5)
        assert list(await h.x.get_service_state(NS, SERVICE)) == [1]

    async def test_a_state_is_removed_by_its_own_instance_or_by_nobody_in_particular(self, h: RouterHarness) -> None:
        await h.pod(0)
        await h.pod(1)
        assert not await h.x.remove_service_state(NS, SERVICE, 0, "other")
        assert await h.x.remove_service_state(NS, SERVICE, 0, "i0")
        assert await h.x.remove_service_state(NS, SERVICE, 1)
        assert not await h.x.remove_service_state(NS, SERVICE, 1)
        assert await h.x.get_service_state(NS, SERVICE) == {}

    @feature("S3", "S4")
    async def test_the_states_of_services_are_read_one_by_one_and_together(self, h: RouterHarness) -> None:
        for name, load in (("a", Load.IDLE), ("b", Load.OVERLOADED)):
            await h.x.set_workload_state(NS, name, WorkloadState(load=load, replicas=3, ready=2))
        one = await h.x.get_workload_state(NS, "a")
        assert one is not None
        assert (one.load, one.replicas, one.ready) == (Load.IDLE, 3, 2)
        found = await h.x.get_workload_states(NS, ["b", "none", "a"])
        assert {name: state.load for name, state in found.items()} == {"a": Load.IDLE, "b": Load.OVERLOADED}
        assert await h.x.get_workload_states(NS, []) == {}
        assert await h.x.get_workload_state(NS, "none") is None

    # --- numbers

    async def test_pods_are_given_the_lowest_free_numbers_and_keep_them(self, h: RouterHarness) -> None:
        numbers = [await h.x.allocate_pod(NS, SERVICE, name, h.long) for name in ("a", "b", "c", "a")]
        assert numbers == [0, 1, 2, 0]
        await h.x.remove_service_state(NS, SERVICE, 1)
        assert await h.x.allocate_pod(NS, SERVICE, "d", h.long) == 1
        found = await h.x.get_service_state(NS, SERVICE)
        assert {pod: (state.pod, state.instance) for pod, state in found.items()} == {
            0: (0, "a"),
            1: (1, "d"),
            2: (2, "c"),
        }
        assert {state.state for state in found.values()} == {ServiceState.PENDING}

    async def test_a_hundred_pods_that_come_at_once_get_a_hundred_numbers(self, h: RouterHarness) -> None:
        numbers = await asyncio.gather(*(h.x.allocate_pod(NS, SERVICE, f"i{n}", h.long) for n in range(100)))
        assert sorted(numbers) == list(range(100))

    # --- compute if absent

    async def test_a_field_goes_to_the_freest_available_pod_and_stays_there(self, h: RouterHarness) -> None:
        await h.pod(0, load=3.0)
        await h.pod(1, load=1.0)
        await h.pod(2, load=0.0, routing=RoutingState.DENY_NEW_CALL)
        await h.pod(3, load=0.0, state=ServiceState.NOT_READY)
        first = await h.x.compute_link_if_absent(NS, SERVICE, "room", OLD)
        assert (first.ok, first.current, first.previous, first.instance) == (True, 1, None, "i1")
        await h.pod(0, load=0.0)
        again = await h.x.compute_link_if_absent(NS, SERVICE, "room", OLD)
        assert (again.ok, again.current, again.epoch) == (True, 1, first.epoch)

    async def test_a_field_of_a_pod_that_is_gone_or_restarted_goes_to_another_owner(self, h: RouterHarness) -> None:
        await h.pod(0)
        first = await h.x.compute_link_if_absent(NS, SERVICE, "room", OLD)
        await h.pod(0, instance="again", load=1.0)
        second = await h.x.compute_link_if_absent(NS, SERVICE, "room", OLD)
        assert (second.current, second.previous, second.instance) == (0, 0, "again")
        assert second.epoch > first.epoch
        await h.x.remove_service_state(NS, SERVICE, 0)
        none = await h.x.compute_link_if_absent(NS, SERVICE, "room", OLD)
        assert (none.ok, none.current, none.previous) == (False, None, 0)

    @feature("SW13")
    async def test_a_state_that_is_too_old_gets_no_field(self, h: RouterHarness) -> None:
        await h.pod(0, load=0.0)
        await h.pass_time(h.brief * 1.5)
        await h.pod(1, load=5.0)
        answer = await h.x.compute_link_if_absent(NS, SERVICE, "room", h.brief)
        assert (answer.ok, answer.current) == (True, 1)

    # --- bad input

    @pytest.mark.parametrize("lease", [0, -1, float("inf"), "x"])
    async def test_a_lease_that_is_no_time_is_refused(self, h: RouterHarness, lease: float) -> None:
        with pytest.raises(ContentError, match="lease"):
            await h.x.set_service_state(NS, SERVICE, PodState(pod=0), lease)

    async def test_a_state_that_can_not_be_is_refused(self, h: RouterHarness) -> None:
        for state in (PodState(pod=-1), PodState(pod=0, load=-1.0), PodState(pod=0, load=float("nan"))):
            with pytest.raises(ContentError):
                await h.x.set_service_state(NS, SERVICE, state, 1.0)
        with pytest.raises(ContentError, match="weight"):
            await h.x.set_service_state(NS, SERVICE, PodState(pod=0, weight=0), 1.0)
        for ns, service in (("", SERVICE), (NS, " "), (NS, "a}")):
            with pytest.raises(ContentError):
                await h.x.set_service_state(ns, service, PodState(pod=0), 1.0)
            with pytest.raises(ContentError):
                await h.x.get_workload_state(ns, service)
