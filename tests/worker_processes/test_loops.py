"""The pool works on every event loop that a worker may run on."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.job.commands import Crashed, Succeeded, TimedOut
from tests.worker_processes.box import gone, make_box

uvloop: Any = pytest.importorskip("uvloop")


async def scenario() -> None:
    async with make_box(2) as box:
        good, killed, forked, late = await asyncio.gather(
            box.run("doubled", number=3),
            box.run("kills_itself"),
            box.run("forks_and_dies"),
            box.run("sleeps", time_limit=0.5),
        )
        assert good.ending == Succeeded(b"6")
        assert isinstance(killed.ending, Crashed)
        assert isinstance(forked.ending, Crashed)
        assert isinstance(late.ending, TimedOut)
        [pid, *_] = box.pool.pids or [0]
    assert await gone(pid)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_jobs_run_crash_and_are_killed_on_this_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
