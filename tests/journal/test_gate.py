"""Where callers wait for the disk: the moments between two threads, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import OutcomeUnknown
from holdfast.stores.journal.gate import Gate, Gates
from holdfast.wal import Log, open_log
from tests.wal.disk import SimDisk


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often other threads wake it."""

    wakes = 0

    def call_soon_threadsafe(self, *args: Any, **named: Any) -> asyncio.Handle:  # type: ignore[override]
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **named)


def written(log: Log) -> int:
    """A frame that is durable; return its number."""
    number = log.append([b"x"])
    log.pump()
    return number


def test_a_caller_that_comes_just_after_the_sync_does_not_wait_for_the_next() -> None:
    log, loop = open_log(SimDisk(), threaded=False), CountingLoop()
    gate = Gate(loop, log)
    assert gate.wait(written(log)).done()
    loop.close()


def test_a_caller_that_comes_just_after_the_failure_is_told_at_once() -> None:
    log, loop = open_log(SimDisk(), threaded=False), CountingLoop()
    gate = Gate(loop, log)
    gate.fail(OSError("broken"))
    waiter = gate.wait(log.append([b"x"]))
    assert isinstance(waiter.exception(), OutcomeUnknown)
    loop.close()


def test_syncs_that_come_before_the_loop_looks_wake_it_once() -> None:
    log, loop = open_log(SimDisk(), threaded=False), CountingLoop()
    gate = Gate(loop, log)
    numbers = [log.append([b"x"]) for _ in range(3)]
    waiters = [gate.wait(number) for number in numbers]
    log.pump()
    for _ in numbers:
        gate.ring()
    assert loop.wakes == 1
    loop.run_until_complete(asyncio.sleep(0))
    assert all(waiter.done() for waiter in waiters)
    gate.ring()  # nobody waits: nobody is woken
    assert loop.wakes == 1
    loop.close()


def test_a_ring_lets_go_those_whose_number_is_reached_and_nobody_else() -> None:
    log, loop = open_log(SimDisk(), threaded=False), CountingLoop()
    gate = Gate(loop, log)
    here = gate.wait(log.append([b"x"]))
    log.pump()
    later = gate.wait(log.append([b"y"]))
    gate.ring()
    loop.run_until_complete(asyncio.sleep(0))
    assert here.done()
    assert not later.done()
    gate.fail(OSError("broken"))
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.raises(OutcomeUnknown):
        later.result()
    loop.close()


def test_a_loop_that_was_closed_with_callers_in_line_is_passed_over() -> None:
    log, loop = open_log(SimDisk(), threaded=False), CountingLoop()
    gate = Gate(loop, log)
    gate.wait(log.append([b"x"]))
    loop.close()
    log.pump()
    gate.ring()
    gate.ring()


async def test_a_loop_that_comes_after_the_failure_is_told_too() -> None:
    log = open_log(SimDisk(), threaded=False)
    gates = Gates(log)
    gates.fail(OSError("broken"))
    with pytest.raises(OutcomeUnknown):
        await gates.wait(log.append([b"x"]))
