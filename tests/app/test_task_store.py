"""The runner of queues, and the example of the five steps."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from examples.task_store.__main__ import main
from holdfast import Holdfast
from holdfast.errors import ConfigError, UsageError
from holdfast.job.state import State
from tests.features import feature

LIMIT = 60.0


class Gate:
    """A task that says that it has begun, and ends when it may."""

    def __init__(self) -> None:
        self.app = Holdfast()
        self.begun: list[str] = []
        self.changed = asyncio.Condition()
        self.opened = asyncio.Event()

        @self.app.task("gate")
        async def gate(name: str) -> str:
            async with self.changed:
                self.begun.append(name)
                self.changed.notify_all()
            await self.opened.wait()
            return name

    async def until(self, count: int) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: len(self.begun) >= count), LIMIT)


@feature("T11", "T12", "T13", "T20", "T30")
async def test_queues_are_started_and_stopped_one_by_one_and_a_stop_waits_for_what_runs() -> None:
    it = Gate()
    async with it.app:
        runner = it.app.runner({"mail": 3, "ledger": "serial"}, grace=LIMIT)
        jobs = [await it.app.enqueue("gate", {"name": queue}, queue=queue) for queue in ("mail", "ledger") * 2]
        assert not runner.is_running()
        await runner.start("mail")
        await runner.start("mail")  # it runs already
        await it.until(2)
        assert (sorted(it.begun), runner.is_running("mail"), runner.is_running("ledger")) == (["mail"] * 2, True, False)
        await runner.start()
        await it.until(3)
        stopping = asyncio.create_task(runner.stop("mail"))
        await asyncio.sleep(0)
        assert not stopping.done()
        it.opened.set()
        await asyncio.wait_for(stopping, LIMIT)
        assert (runner.is_running("mail"), runner.is_running()) == (False, True)
        late = await it.app.enqueue("gate", {"name": "late"}, queue="mail")
        assert [await job.result(LIMIT) for job in jobs] == ["mail", "ledger"] * 2
        await runner.stop()
        await runner.stop()  # nothing runs: nothing happens
        assert not runner.is_running()
        assert (await late.get()).state is State.QUEUED
        async with runner:  # and once more
            assert await late.result(LIMIT) == "late"
        with pytest.raises(UsageError, match="unknown queue 'nobody'"):
            await runner.start("nobody")


@feature("T11", "T30")
async def test_run_once_drains_the_queue_and_starts_nothing() -> None:
    it = Gate()
    it.opened.set()
    async with it.app:
        runner = it.app.runner()
        for number in range(25):
            await it.app.enqueue("gate", {"name": str(number)})
        passed = await runner.run_once()
        assert (len(passed.done), runner.is_running()) == (25, False)
        assert (await runner.run_once()).empty


@feature("T30")
async def test_what_keeps_a_runner_from_starting_is_raised() -> None:
    app = Holdfast()
    app.schedule("s", "nobody", cron="@daily")
    with pytest.raises(Exception, match="unknown task 'nobody'"):
        await app.runner().start()
    await app.close()


@pytest.mark.parametrize(
    ("queues", "word"),
    [
        (["mail"], "expected a dict"),
        ("mail", "expected a dict"),
        (5, "expected a dict"),
        ({}, "expected at least one"),
        ({"mail": 0}, "from 1 to 100,000, found 0"),
        ({"mail": -1}, "from 1 to 100,000, found -1"),
        ({"mail": True}, "from 1 to 100,000, found True"),
        ({"mail": "seriel"}, '"serial" or a whole number'),
        ({"": 1}, "found ''"),
        ({"x" * 101: 1}, "101 characters"),
        ({1: 1}, "found 1"),
    ],
)
@feature("T11", "T15", "T30", "TW12")
def test_queues_that_can_not_be_run_are_refused_where_they_are_written(queues: Any, word: str) -> None:
    app = Holdfast()
    for call in (app.runner, app.worker):
        with pytest.raises(ConfigError, match=word):
            call(queues)


@feature("T30")
def test_a_runner_refuses_options_and_names_that_it_does_not_know() -> None:
    app = Holdfast()
    with pytest.raises(UsageError, match="unknown option 'lese'"):
        app.runner({"mail": 1}, lese=3)
    with pytest.raises(ConfigError, match="lease"):
        app.runner({"mail": 1}, lease=-1)
    with pytest.raises(UsageError, match=r"unknown queue 'zz'\. Expected some of mail"):
        app.runner({"mail": 1}).is_running("zz")


@feature("T25")
async def test_the_five_steps_of_the_example_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = await main(str(tmp_path / "shop.db"))
    assert sorted(shop.sent) == ["ann", "bob", "cy"]
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4.", "5."]
    assert "7 jobs done" in lines[-1]
    connection = sqlite3.connect(tmp_path / "shop.db")
    totals = [row[0] for row in connection.execute("SELECT total FROM orders ORDER BY id")]
    connection.close()
    assert totals == [9.5, 19.0, 28.5]
