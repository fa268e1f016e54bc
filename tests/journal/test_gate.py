"""Where callers wait for the disk: the moments between two threads, one at a time."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from typing import TYPE_CHECKING

import pytest

from holdfast.errors import OutcomeUnknown
from holdfast.stores.journal.gate import Gate, Gates
from holdfast.wal import Log, open_log
from tests.wal.disk import SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class WatchedLoop(asyncio.SelectorEventLoop):
    """Remembers what it watches, and tells how often it was rung for since it last looked.

    `when_watching` is called as soon as it begins to watch: what another thread may do in that moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[int] = set()
        self.when_watching: Callable[[], None] = lambda: None

    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> None:  # type: ignore[override]
        super().add_reader(fd, callback, *args)
        self.watched.add(fd)
        self.when_watching()

    def remove_reader(self, fd: int) -> bool:  # type: ignore[override]
        self.watched.discard(fd)
        return super().remove_reader(fd)

    @property
    def rings(self) -> int:
        found = array.array("i", [0])
        [bell] = self.watched
        fcntl.ioctl(bell, termios.FIONREAD, found)
        return found[0]

    def look(self) -> None:
        """Go round once."""
        self.call_soon(self.stop)
        self.run_forever()


@pytest.fixture
def loop() -> Iterator[WatchedLoop]:
    loop = WatchedLoop()
    yield loop
    loop.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def written(log: Log) -> int:
    """A frame that is durable; return its number."""
    number = log.append([b"x"])
    log.pump()
    return number


def test_a_caller_that_comes_just_after_the_sync_does_not_wait_for_the_next(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    assert gate.wait(written(log)).done()
    assert not loop.watched


def test_a_sync_in_the_moment_in_which_a_caller_takes_its_place_is_not_missed(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)

    def pump() -> None:
        log.pump()
        gate.ring()

    loop.when_watching = pump
    waiter = gate.wait(log.append([b"x"]))
    assert waiter.done()
    gate.close()
    loop.look()


def test_a_caller_that_comes_just_after_the_failure_is_told_at_once(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    gate.fail(OSError("broken"))
    waiter = gate.wait(log.append([b"x"]))
    assert isinstance(waiter.exception(), OutcomeUnknown)


def test_syncs_that_come_before_the_loop_looks_wake_it_once(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    numbers = [log.append([b"x"]) for _ in range(3)]
    waiters = [gate.wait(number) for number in numbers]
    log.pump()
    for _ in numbers:
        gate.ring()
    assert loop.rings == 1
    loop.look()
    assert all(waiter.done() for waiter in waiters)
    gate.ring()  # nobody waits: nobody is woken
    assert loop.rings == 0
    gate.close()
    loop.look()


def test_a_ring_lets_go_those_whose_number_is_reached_and_nobody_else(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    here = gate.wait(log.append([b"x"]))
    log.pump()
    later = gate.wait(log.append([b"y"]))
    gate.ring()
    loop.look()
    assert here.done()
    assert not later.done()
    gate.fail(OSError("broken"))
    loop.look()
    with pytest.raises(OutcomeUnknown):
        later.result()
    gate.close()
    loop.look()


def test_closing_lets_go_those_whose_number_is_reached_and_gives_the_bell_back(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    waiter = gate.wait(log.append([b"x"]))
    log.pump()
    gate.close()
    loop.look()
    assert waiter.done()
    assert not loop.watched
    gate.ring()  # harmless


def test_a_loop_that_was_closed_with_callers_in_line_is_passed_over(loop: WatchedLoop) -> None:
    log = open_log(SimDisk(), threaded=False)
    gate = Gate(loop, log)
    gate.wait(log.append([b"x"]))
    loop.close()
    log.pump()
    gate.ring()
    gate.ring()
    gate.close()
    gate.close()


def test_the_bells_of_closed_loops_are_given_back_when_another_loop_comes() -> None:
    log = open_log(SimDisk(), threaded=False)
    gates = Gates(log)
    before = open_files()

    async def wait_in_vain() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gates.wait(log.append([b"x"])), 0)

    for _ in range(5):
        asyncio.run(wait_in_vain())
        assert open_files() <= before + 2
    gates.close()
    assert open_files() == before


async def test_a_loop_that_comes_after_the_failure_is_told_too() -> None:
    log = open_log(SimDisk(), threaded=False)
    gates = Gates(log)
    gates.fail(OSError("broken"))
    with pytest.raises(OutcomeUnknown):
        await gates.wait(log.append([b"x"]))
