"""What a router decides by, without any executor: which pods may get keys, whose turn it is, how loaded a service is."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.router import (
    OVERLOADED,
    Load,
    PodState,
    RoutingState,
    ServiceState,
    is_available,
    is_routable,
    pod_from,
    workload_of,
)
from holdfast.sticky.choice import Choice
from tests.features import feature

DENY: Final = RoutingState.DENY_NEW_CALL
SHUTDOWN: Final = RoutingState.SHUTDOWN


@feature("SW11")
@pytest.mark.parametrize("routing", list(RoutingState))
@pytest.mark.parametrize("state", list(ServiceState))
def test_what_is_available_is_routable_and_there_is_one_definition_of_both(
    state: ServiceState, routing: RoutingState
) -> None:
    pod = PodState(pod=0, state=state, routing=routing)
    assert is_routable(pod) is (state is ServiceState.READY and routing is not SHUTDOWN)
    assert is_available(pod) is (state is ServiceState.READY and routing is RoutingState.READY)
    assert is_routable(pod) or not is_available(pod)


@feature("SW11")
def test_an_unknown_pod_is_neither() -> None:
    assert not is_routable(None)
    assert not is_available(None)


@feature("SW12")
@given(weights=st.lists(st.integers(1, 5), min_size=1, max_size=6), rounds=st.integers(1, 4))
@settings(derandomize=True, database=None, max_examples=100)
def test_over_whole_rounds_each_pod_has_its_exact_share(weights: list[int], rounds: int) -> None:
    pods: Mapping[int, PodState] = {n: PodState(pod=n, weight=weight) for n, weight in enumerate(weights)}
    choice = Choice()
    chosen = Counter(best.pod for _ in range(sum(weights) * rounds) if (best := choice.best(pods)) is not None)
    assert chosen == {n: weight * rounds for n, weight in enumerate(weights)}


@feature("SW12")
def test_turns_are_smooth_and_not_in_runs() -> None:
    pods = {0: PodState(pod=0, weight=5), 1: PodState(pod=1), 2: PodState(pod=2)}
    choice = Choice()
    turns = [best.pod for _ in range(7) if (best := choice.best(pods)) is not None]
    assert turns == [0, 0, 1, 0, 2, 0, 0]


def test_a_pod_that_comes_back_is_not_flooded() -> None:
    choice = Choice()
    both = {0: PodState(pod=0), 1: PodState(pod=1)}
    busy = {0: PodState(pod=0), 1: PodState(pod=1, load=4.0)}
    for _ in range(100):
        choice.best(busy)
    turns = [best.pod for _ in range(10) if (best := choice.best(both)) is not None]
    assert sorted(turns) == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("loads", "load"),
    [([0.0, 1.0], Load.IDLE), ([1.0, 1.5], Load.NORMAL), ([3.0], Load.HIGH), ([OVERLOADED], Load.OVERLOADED)],
)
@feature("SW9")
def test_a_services_load_is_that_of_its_live_pods(loads: list[float], load: Load) -> None:
    pods = {n: PodState(pod=n, load=one) for n, one in enumerate(loads)}
    pods[9] = PodState(pod=9, routing=SHUTDOWN, load=99.0)
    pods[8] = PodState(pod=8, routing=DENY, load=loads[0])
    state = workload_of(pods, 5.0)
    assert (state.load, state.replicas, state.ready, state.updated_at) == (load, len(loads) + 2, len(loads), 5.0)


def test_a_service_without_routable_pods_is_shut_down() -> None:
    assert workload_of({0: PodState(pod=0, routing=SHUTDOWN)}, 0.0).load is Load.SHUTDOWN


def test_a_process_is_told_its_number_by_the_setting_or_the_name_of_its_host() -> None:
    assert [pod_from(*given) for given in (("3", "x-1"), ("", "chat-12"), ("", "chat"), ("", "7"))] == [
        3,
        12,
        None,
        None,
    ]
    for bad in ("-1", "x", "1.5", "9999999", "²"):
        with pytest.raises(ConfigError, match="HOLDFAST_POD_INDEX"):
            pod_from(bad, "host")
