"""The bell that wakes the writer, and the loops that wait for it."""

import gc
import os
import threading

import pytest

from holdfast.wal.bell import Bell


@pytest.fixture
def bell() -> Bell:
    return Bell()


def test_a_ring_before_the_sleep_is_heard(bell: Bell) -> None:
    bell.ring()
    bell.ring()
    bell.wait(None)
    bell.wait(0)  # both were heard at once
    bell.close()


def test_a_ring_wakes_the_sleeper(bell: Bell) -> None:
    awake = threading.Event()

    def sleep() -> None:
        bell.wait(None)
        awake.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    bell.ring()
    assert awake.wait(60)
    sleeper.join()
    bell.close()


def test_a_sleep_ends_with_its_time(bell: Bell) -> None:
    bell.wait(0.001)
    bell.close()


def test_a_closed_bell_rings_for_nobody_and_is_closed_once(bell: Bell) -> None:
    bell.close()
    bell.ring()
    bell.close()
    assert bell.handle == -1


def test_a_bell_that_nobody_holds_gives_its_pipe_back() -> None:
    handle = Bell().handle
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
