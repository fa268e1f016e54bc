"""When the parent stops beating for a worker process, and when it does not."""

import pytest

from holdfast.job.model import Instance
from holdfast.worker.supervisor.judge import fault_of
from holdfast.worker.supervisor.messages import Here

INSTANCE = Instance(id="one", worker="worker")


@pytest.mark.parametrize(
    ("turned_at", "overdue_at", "heard_at", "now", "fault"),
    [
        # All is well: the loop turned a second ago.
        (99.0, None, 99.5, 100.0, ""),
        # The loop is blocked, but nothing is overdue: a long computation keeps its job.
        (10.0, None, 99.5, 100.0, ""),
        (10.0, 150.0, 99.5, 100.0, ""),
        # A limit passed a moment ago: the loop gets its slack.
        (10.0, 96.0, 99.5, 100.0, ""),
        # It passed, the loop has not turned since, and the process says so itself.
        (10.0, 90.0, 99.5, 100.0, "beyond the time limit"),
        # The limit passed after the last sign: nobody knows yet what the loop did.
        (10.0, 90.0, 89.0, 100.0, ""),
        # The loop has turned since: it is about to abandon the handler.
        (91.0, 90.0, 99.5, 100.0, ""),
        # Silence, and a loop that was blocked for as long.
        (10.0, None, 10.5, 611.0, "no sign of life for 600 s"),
        (10.0, None, 610.5, 611.0, "was blocked for 600 s"),
    ],
)
def test_a_process_is_judged_by_its_signs(
    turned_at: float, overdue_at: float | None, heard_at: float, now: float, fault: str
) -> None:
    found = fault_of(Here(INSTANCE, turned_at, overdue_at), heard_at, now, silent_limit=600.0)
    assert fault in found
    assert bool(found) == bool(fault)


def test_a_process_that_never_said_anything_is_given_up_too() -> None:
    assert not fault_of(None, 0.0, 599.0, silent_limit=600.0)
    assert "no sign of life" in fault_of(None, 0.0, 600.0, silent_limit=600.0)
