"""Five schedulers in five processes on one store: each tick becomes one job, also when two of them are killed."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import pytest

from holdfast.job.commands import JobFilter, Page
from holdfast.job.model import Schedule, ScheduleStatus
from holdfast.schedule import steering
from holdfast.store import Store
from tests.features import feature
from tests.node.processes import ROOT, NodeProcess, environment
from tests.schedule.contender import opened
from tests.support.socket_store import served

SCHEDULERS: Final = 5
KILLED: Final = 2
LIMIT: Final = 300.0


async def prepare(store: Store, schedules: int, ticks: int) -> float:
    """Make schedules with so many ticks each; return the time of the first one."""
    start = float(int(store.now()) + 86_400)
    for number in range(schedules):
        name = f"s{number}"
        rule = Schedule(
            name=name, task="t", rule="every 1s", start_at=start, max_count=ticks, status=ScheduleStatus.ACTIVE
        )
        await steering.create(store, rule)
    return start


async def counted(store: Store) -> Counter[tuple[str, str]]:
    """How many jobs there are of each tick."""
    found: Counter[tuple[str, str]] = Counter()
    page = Page(limit=1_000)
    while True:
        jobs = await store.find(JobFilter(), page)
        headers = (msgspec.json.decode(job.headers) for job in jobs.items)
        found.update((header["schedule"], header["tick"]) for header in headers)
        if not jobs.cursor:
            return found
        page = Page(limit=1_000, cursor=jobs.cursor)


def fight(kind: str, place: str) -> None:
    """Let the schedulers fight; two are killed in the middle of it, and the others end when nothing is left."""
    command = [sys.executable, "-m", "tests.schedule.contender", kind, place]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment(), text=True
                )
            )
            for _ in range(SCHEDULERS)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
            for process in processes[:KILLED]:
                process.kill()
            assert [process.wait(LIMIT) for process in processes[KILLED:]] == [0] * (SCHEDULERS - KILLED)
        finally:
            for process in processes:
                process.kill()


def contest(kind: str, place: str, open_store: Callable[[], Store], schedules: int, ticks: int) -> None:
    """Prepare, fight, and count: every tick was fired once."""

    async def begin() -> None:
        store = open_store()
        await store.open()
        await prepare(store, schedules, ticks)
        await store.close()

    async def end() -> tuple[Counter[tuple[str, str]], list[Schedule]]:
        store = open_store()
        await store.open()
        try:
            return await counted(store), await store.schedules()
        finally:
            await store.close()

    asyncio.run(begin())
    fight(kind, place)
    found, left = asyncio.run(end())
    assert set(found.values()) == {1}
    assert len(found) == schedules * ticks
    assert {(one.count, one.status) for one in left} == {(ticks, ScheduleStatus.COMPLETED)}


@feature("T31", "TW16", "A29")
def test_a29_five_schedulers_of_which_two_are_killed_fire_each_tick_once(tmp_path: Path) -> None:
    with served(tmp_path / "store") as place:
        contest("socket", place, lambda: opened("socket", place), schedules=4, ticks=250)


@feature("T31", "TW16", "A29")
def test_a29_five_schedulers_on_the_journal_of_a_node_fire_each_tick_once(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "data", "--no-http", app=None)
    place = f"journal:{node.data}"
    try:
        contest("client", place, lambda: opened("client", place), schedules=2, ticks=100)
    finally:
        node.kill()


@pytest.mark.soak
@feature("T31", "TW16", "A29")
def test_five_schedulers_fire_each_of_ten_thousand_ticks_once(tmp_path: Path) -> None:
    with served(tmp_path / "store") as place:
        contest("socket", place, lambda: opened("socket", place), schedules=4, ticks=2_500)
