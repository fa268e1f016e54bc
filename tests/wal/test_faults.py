"""T7 of the test plan: every call of the system fails once, and from then on."""

import pytest

from tests.wal import faults
from tests.wal.apart import run_apart


def test_whatever_call_fails_nothing_is_acknowledged_wrongly_and_a_restart_is_consistent() -> None:
    found = run_apart("tests.wal.faults", ("--step", "6"), ("--step", "6", "--start", "3"))
    assert [wrong for outcome in found for wrong in outcome["wrong"]] == []
    assert sum(outcome["runs"] for outcome in found) >= 1_000


@pytest.mark.parametrize("error", faults.ERRORS)
def test_a_few_calls_in_this_process(error: int) -> None:
    for call in (5, 60, 171, 255):
        assert faults.attempt(call, error, forever=False)[1] == []


@pytest.mark.soak
def test_every_call_with_every_error() -> None:
    found = run_apart("tests.wal.faults", ("--step", "2"), ("--step", "2", "--start", "1"))
    assert [wrong for outcome in found for wrong in outcome["wrong"]] == []
