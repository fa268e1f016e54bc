"""Slots, weights and how far to claim ahead: pure."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.job.commands import Claim
from holdfast.job.model import Job
from holdfast.worker.execution import Execution, Grant
from holdfast.worker.lanes import Lanes, ahead
from holdfast.worker.options import CLAIM_MAX, WorkerOptions
from tests.features import feature


def execution(lanes: Lanes, queue: str) -> Execution:
    claim = Claim(Job(seq=1, id="a", task="t"), "a", "t", queue, 1, 1, 0.0, 1)
    return Execution(claim, None, lane=lanes.by_name[queue], grant=Grant(0.0, 0.0))  # type: ignore[arg-type]


def test_jobs_that_end_in_a_flash_are_claimed_ahead_by_a_tenth_of_a_second() -> None:
    assert ahead(finished=100, elapsed=0.05, concurrency=10, most=500) == 200


def test_long_jobs_are_not_claimed_ahead() -> None:
    assert ahead(finished=5, elapsed=0.05, concurrency=10, most=500) == 0
    assert ahead(finished=0, elapsed=60.0, concurrency=1, most=500) == 0


@given(finished=st.integers(0, 10**6), elapsed=st.floats(0.05, 60), concurrency=st.integers(1, 1_000))
def test_never_more_than_the_bound_is_claimed_ahead(finished: int, elapsed: float, concurrency: int) -> None:
    assert 0 <= ahead(finished, elapsed, concurrency, 500) <= 500


@feature("BW14")
def test_a_worker_asks_for_as_many_as_it_has_free_slots_and_no_more() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 3, "b": "serial"}))
    assert [(want.queue, want.limit) for want in lanes.wants(0.0)] == [("a", 3), ("b", 1)]
    for _ in range(3):
        assert lanes.take(lanes.by_name["a"])
    assert not lanes.take(lanes.by_name["a"])
    assert [want.queue for want in lanes.wants(0.0)] == ["b"]


def test_a_half_empty_buffer_is_filled_again() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 2}))
    lane = lanes.by_name["a"]
    lane.extra, lane.low, lane.mark = 10, 5, 0.0
    for _ in range(2):
        lanes.take(lane)
    lane.buffer.extend(execution(lanes, "a") for _ in range(5))
    assert lanes.wants(0.0) == ()
    lane.buffer.popleft()
    [want] = lanes.wants(0.0)
    assert want.limit == 6


def test_a_fast_queue_is_asked_for_whole_batches() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 10}))
    lane = lanes.by_name["a"]
    lane.finished = 100_000
    for _ in range(10):
        lanes.take(lane)
    assert [want.limit for want in lanes.wants(1.0)] == [CLAIM_MAX]
    lane.buffer.extend(execution(lanes, "a") for _ in range(CLAIM_MAX))
    assert lanes.wants(1.0) == ()
    lane.buffer.popleft()
    assert [want.limit for want in lanes.wants(1.0)] == [CLAIM_MAX]


def test_how_quick_jobs_are_is_known_before_the_measuring_time_is_over_when_many_ended() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 10}))
    lane = lanes.by_name["a"]
    lane.finished = 39
    lanes.wants(0.005)
    assert lane.extra == 0
    lane.finished = 40
    lanes.wants(0.005)
    assert lane.extra == 800  # 8,000 a second: what ends in a tenth of it
    lane.finished = 1
    lanes.wants(0.006)
    assert lane.extra == 800  # one more tells nothing yet


def test_a_serial_queue_is_never_claimed_ahead() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": "serial"}))
    lane = lanes.by_name["a"]
    lane.finished = 100_000
    lanes.wants(1.0)
    assert lane.extra == 0


def serve(lanes: Lanes, rounds: int, empty: frozenset[str] = frozenset()) -> Counter[str]:
    """Give away the only slot `rounds` times, as a store would: to the first queue asked for that has work."""
    got: Counter[str] = Counter()
    for _ in range(rounds):
        wanted = lanes.wants(0.0)
        limit = lanes.total(wanted)
        assert limit == 1
        first = next(want.queue for want in wanted if want.queue not in empty)
        lanes.served(wanted, limit, Counter({first: 1}))
        got[first] += 1
    return got


def test_queues_share_scarce_slots_by_their_weights() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 5, "b": 5, "c": 5}, slots=1, weights={"a": 5, "b": 2}))
    assert serve(lanes, 80) == {"a": 50, "b": 20, "c": 10}


def test_the_round_robin_is_smooth() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 5, "b": 5}, slots=1, weights={"a": 3}))
    order = "".join(next(iter(serve(lanes, 1))) for _ in range(8))
    assert order.count("a") == 6
    assert "aaaa" not in order + order


def test_an_empty_queue_saves_up_no_credit() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 5, "b": 5}, slots=1))
    for _ in range(50):
        wanted = lanes.wants(0.0)
        lanes.served(wanted, 2, Counter({"a": 1}))  # asked for two, got one: b has nothing
    assert serve(lanes, 10) == {"a": 5, "b": 5}


def test_strict_order_serves_the_first_queue_as_long_as_it_has_work() -> None:
    lanes = Lanes(WorkerOptions(queues={"a": 5, "b": 5}, slots=1, strict=True))
    assert serve(lanes, 10) == {"a": 10}
    assert serve(lanes, 10, empty=frozenset({"a"})) == {"b": 10}


@settings(max_examples=100)
@given(seed=st.integers(), cap=st.integers(1, 6))
def test_slots_are_never_exceeded_and_never_lost(seed: int, cap: int) -> None:
    rng = random.Random(seed)
    lanes = Lanes(WorkerOptions(queues={"a": 3, "b": 2, "c": "serial"}, slots=cap))
    running: list[Execution] = []
    for _ in range(200):
        if rng.random() < 0.5:
            one = execution(lanes, rng.choice("abc"))
            if lanes.take(one.lane):
                running.append(one)
            elif len(one.lane.buffer) < 5:
                one.lane.buffer.append(one)
        elif running:
            one = running.pop(rng.randrange(len(running)))
            following = lanes.pass_on(one.lane)
            if following is not None:
                running.append(following)
        assert lanes.busy == len(running) <= min(cap, 6)
        for lane in lanes.by_name.values():
            assert lane.busy == sum(one.lane is lane for one in running) <= lane.concurrency


def test_all_faults_of_the_options_are_told_at_once() -> None:
    bad = WorkerOptions(
        queues={"a": 0, "bad name!": 3}, slots=-1, weights={"z": 1}, strict=True, lease=0.0, poll=-1.0, buffer=2_001
    )
    with pytest.raises(ConfigError) as caught:
        bad.checked()
    text = str(caught.value)
    for part in ("queues['a']", "bad name!", "slots", "weights['z']", "strict", "lease", "poll", "buffer"):
        assert part in text


def test_a_beat_longer_than_a_third_of_the_lease_is_refused() -> None:
    with pytest.raises(ConfigError, match="third of the lease"):
        WorkerOptions(lease=30.0, beat=11.0).checked()
