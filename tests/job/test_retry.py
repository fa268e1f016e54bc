"""How long a failed job waits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.job.retry import RetryPolicy, backoff
from tests.features import feature

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10_000),
    base=st.floats(0.0, 1e6),
    factor=st.floats(1.0, 1e4),
    cap=st.floats(0.0, 1e9),
)
failures = st.integers(1, 10_000)
jitters = st.floats(0.0, 1.0)


@feature("T18")
@given(policies, failures, jitters)
def test_a_wait_lies_between_half_and_the_whole_of_its_step_and_never_above_the_cap(
    policy: RetryPolicy, failures: int, jitter: float
) -> None:
    wait = backoff(policy, failures, jitter)
    full = backoff(policy, failures, 1.0)
    assert math.isfinite(wait)
    assert full / 2 <= wait <= full <= policy.cap


@feature("T18")
@given(policies, st.integers(1, 9_999), jitters)
def test_waits_never_get_shorter(policy: RetryPolicy, failures: int, jitter: float) -> None:
    assert backoff(policy, failures, jitter) <= backoff(policy, failures + 1, jitter)


@feature("T18")
def test_the_default_waits_double_from_two_seconds_to_an_hour() -> None:
    waits = [backoff(RetryPolicy(), n, 1.0) for n in range(1, 14)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 3600.0, 3600.0]
    assert RetryPolicy().max_attempts == 5


@feature("T18")
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=5), failures, jitters)
def test_own_delays_are_taken_as_they_are_and_the_last_one_repeats(
    delays: list[float], failures: int, jitter: float
) -> None:
    wait = backoff(RetryPolicy(delays=tuple(delays)), failures, jitter)
    assert wait == (delays + [delays[-1]] * 10_000)[failures - 1]


@pytest.mark.parametrize("failures", [0, -1])
def test_failures_are_counted_from_1(failures: int) -> None:
    with pytest.raises(ValueError, match=f"found {failures}"):
        backoff(RetryPolicy(), failures, 0.5)
