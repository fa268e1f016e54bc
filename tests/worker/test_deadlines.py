"""One heap and one timer; entries of handlers that ended early do not pile up."""

import asyncio

from holdfast.clock import ManualClock
from holdfast.job.commands import Claim
from holdfast.job.model import Job
from holdfast.worker.deadlines import SWEEP, Deadlines
from holdfast.worker.execution import Execution, Grant
from holdfast.worker.lanes import Lane
from holdfast.worker.timing import ManualTiming


class Set:
    """Deadlines on a steered clock, and what they called."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timing = ManualTiming(self.clock)
        self.expired: list[str] = []
        self.abandoned: list[str] = []
        self.deadlines = Deadlines(
            self.clock.monotonic,
            self.timing,
            lambda e: self.expired.append(e.id),
            lambda e: self.abandoned.append(e.id),
        )

    def running(self, name: str) -> Execution:
        claim = Claim(Job(seq=1, id=name, task="t"), name, "t", "q", 1, 1, 0.0, name)
        lane = Lane("q", 1, serial=False, weight=1)
        e = Execution(claim, None, lane=lane, grant=Grant(0.0, 0.0))  # type: ignore[arg-type]
        e.handler = asyncio.ensure_future(asyncio.sleep(0))
        return e


async def test_deadlines_come_in_the_order_of_their_times() -> None:
    one = Set()
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        one.deadlines.limit(one.running(name), when)
    one.timing.advance(2.5)
    assert one.expired == ["a", "b"]
    one.timing.advance(1.0)
    assert one.expired == ["a", "b", "c"]


async def test_a_handler_that_has_ended_does_not_expire() -> None:
    one = Set()
    e = one.running("a")
    one.deadlines.limit(e, 1.0)
    e.handler = None
    one.deadlines.ended()
    one.timing.advance(5.0)
    assert one.expired == []


async def test_limit_and_grace_are_told_apart() -> None:
    one = Set()
    e = one.running("a")
    one.deadlines.limit(e, 1.0)
    one.deadlines.grace(e, 2.0)
    one.timing.advance(1.5)
    assert (one.expired, one.abandoned) == (["a"], [])
    one.timing.advance(1.0)
    assert one.abandoned == ["a"]


async def test_a_later_deadline_does_not_delay_an_earlier_one() -> None:
    one = Set()
    one.deadlines.limit(one.running("late"), 100.0)
    one.deadlines.limit(one.running("soon"), 1.0)
    one.timing.advance(1.0)
    assert one.expired == ["soon"]


async def test_entries_of_ended_handlers_are_swept_out() -> None:
    one = Set()
    for n in range(10 * SWEEP):
        e = one.running(str(n))
        one.deadlines.limit(e, 1_000.0)
        e.handler = None
        one.deadlines.ended()
        assert len(one.deadlines) <= 2 * SWEEP
    kept = one.running("kept")
    one.deadlines.limit(kept, 999.0)
    one.timing.advance(1_000.0)
    assert one.expired == ["kept"]


async def test_close_forgets_all() -> None:
    one = Set()
    one.deadlines.limit(one.running("a"), 1.0)
    one.deadlines.close()
    one.timing.advance(2.0)
    assert one.expired == []
