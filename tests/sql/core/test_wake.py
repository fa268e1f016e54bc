"""Looking at what others wrote: only while somebody waits, and also after a look that failed."""

import asyncio
import logging

import pytest

from holdfast.errors import StoreClosed, StoreUnavailable
from holdfast.stores.sql import wake
from holdfast.stores.sql.wake import Polling
from holdfast.stores.wakeups import Signal

#: Seconds of real time after which something that should come is given up.
BOUND = 60.0


class Number:
    """What is looked at."""

    def __init__(self) -> None:
        self.value, self.looks = 0, 0
        self.faults: list[Exception] = []

    async def look(self) -> int:
        self.looks += 1
        if self.faults:
            raise self.faults.pop()
        return self.value


async def started(number: Number) -> tuple[Polling, Signal]:
    work = Signal()
    polling = Polling(number.look, 0.001)
    await polling.start(work, Signal(), set())
    return polling, work


async def test_a_change_wakes_those_who_wait() -> None:
    number = Number()
    polling, work = await started(number)
    waiting = asyncio.create_task(polling.wait(work, work.count, 600.0))
    await asyncio.sleep(0)
    number.value = 7
    assert await asyncio.wait_for(waiting, BOUND) is True
    await polling.stop()


async def test_nobody_looks_while_nobody_waits() -> None:
    number = Number()
    polling, work = await started(number)
    assert await polling.wait(work, work.count, 0.01) is False
    while polling._task is not None:  # noqa: ASYNC110 - the last look ends by itself
        await asyncio.sleep(0.001)
    seen = number.looks
    await asyncio.sleep(0.02)
    assert number.looks == seen
    await polling.stop()


async def test_a_look_that_failed_is_told_and_done_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "_AFTER_ERROR", 0.001)
    number = Number()
    polling, work = await started(number)
    number.faults, number.value = [StoreUnavailable("away")], 7
    with caplog.at_level(logging.WARNING, logger="holdfast.store"):
        assert await asyncio.wait_for(polling.wait(work, work.count, 600.0), BOUND) is True
    assert "away" in caplog.text
    await polling.stop()


async def test_a_store_that_was_closed_ends_the_looking() -> None:
    number = Number()
    polling, work = await started(number)
    number.faults = [StoreClosed("closed")]
    assert await polling.wait(work, work.count, 0.05) is False
    assert polling._task is None
    await polling.stop()
