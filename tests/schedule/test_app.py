"""Schedules as an app declares, makes and steers them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Context, Holdfast
from holdfast.clock import ManualClock
from holdfast.errors import (
    BadArguments,
    ConfigError,
    Conflict,
    TaskInactive,
    UnknownSchedule,
    UnknownTask,
)
from holdfast.job.model import CatchUp, ScheduleStatus
from holdfast.schedule.scheduler import POLL, Scheduler
from holdfast.worker.hooks import Alarm
from holdfast.worker.timing import LoopTiming, Timer
from tests.features import feature

QUEUES: Any = {"default": 4}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(clock: ManualClock) -> AsyncIterator[Holdfast]:
    made = Holdfast(clock=clock)

    @made.task("report", queue="reports", max_attempts=2)
    async def report(kind: str = "short", *, ctx: Context) -> str:
        return kind

    async with made:
        yield made


@feature("T31")
async def test_a_task_may_carry_its_schedule(clock: ManualClock) -> None:
    app = Holdfast(clock=clock)

    @app.task("hourly", cron="0 * * * *", zone="Asia/Kathmandu")
    async def hourly() -> None: ...

    @app.task("often", every="30s", priority=5)
    async def often() -> None: ...

    async with app:
        await app.work_once()
        [first, second] = await app.schedules.list()
    assert (first.name, first.task, first.rule, first.zone) == ("hourly", "hourly", "0 * * * *", "Asia/Kathmandu")
    assert (second.rule, second.priority, second.next_run_at) == ("every 30s", 5, clock.now() + 30.0)


@feature("T31")
async def test_declared_schedules_are_made_when_a_worker_starts_and_brought_up_to_date_by_the_next(
    app: Holdfast, clock: ManualClock
) -> None:
    app.schedule("nightly", "report", {"kind": "full"}, cron="0 3 * * *", catch_up="all", description="old")
    await app.work_once()
    [made] = await app.schedules.list()
    assert (made.payload, made.queue, made.catch_up) == (b'{"kind":"full"}', "reports", CatchUp.ALL)
    assert made.status is ScheduleStatus.ACTIVE
    await app.work_once()
    assert await app.schedules.list() == [made]
    newer = Holdfast(clock=clock, store=await app.open())
    newer.tasks.add(app.tasks.get("report"))  # type: ignore[arg-type]
    newer.schedule("nightly", "report", {"kind": "full"}, cron="0 4 * * *", catch_up="all", description="new")
    await newer.work_once()
    [changed] = await newer.schedules.list()
    assert (changed.rule, changed.description, changed.count) == ("0 4 * * *", "new", 0)


@feature("T31")
async def test_a_worker_fires_what_is_due_and_runs_it(app: Holdfast, clock: ManualClock) -> None:
    await app.schedules.create("s", "report", {"kind": "full"}, every="1m")
    assert (await app.work_once()).empty
    clock.advance(60.0)
    done = await app.work_once()
    [job] = (await app.jobs.list()).items
    assert (done.done, job.result) == ((job.id,), b'"full"')
    tick = datetime.fromtimestamp(clock.now(), UTC).isoformat()
    assert msgspec.json.decode(job.headers) == {"schedule": "s", "tick": tick}


@feature("T31")
async def test_a_running_worker_sees_a_new_schedule_at_once_and_fires_it_in_time() -> None:
    app = Holdfast()
    ran: list[str] = []
    enough = asyncio.Event()

    @app.task("beat")
    async def beat(name: str) -> None:
        ran.append(name)
        if len(ran) >= 3:
            enough.set()

    async with app, app.worker(QUEUES):
        # Its scheduler has looked, and would sleep for POLL seconds; a change in this process wakes it.
        assert POLL > 10
        await app.schedules.create("s", beat, {"name": "s"}, every="100ms", max_count=3)
        await asyncio.wait_for(enough.wait(), 60.0)
        after = await app.schedules.get("s")
        assert (after.status, after.count, ran) == (ScheduleStatus.COMPLETED, 3, ["s"] * 3)


class Sleeps(LoopTiming):
    """Notes how long a scheduler means to sleep."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock, self.noted = clock, asyncio.Queue[float]()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.noted.put_nowait(when - self.clock.monotonic())
        return super().call_at(when, callback)


@feature("T31")
@pytest.mark.parametrize(("url", "least", "most"), [("memory:", 15.0, 60.0), ("sqlite:///{}/q.db", 1.0, 5.0)])
async def test_where_nobody_tells_of_changes_a_scheduler_looks_within_five_seconds(
    clock: ManualClock, tmp_path: Path, url: str, least: float, most: float
) -> None:
    async with Holdfast(url.format(tmp_path), clock=clock) as app:
        for draw in (0.0, 0.999):
            sleeps, store = Sleeps(clock), await app.open()
            made = Scheduler(
                store,
                new_id=lambda: "x",
                alarm=Alarm(None, asyncio.get_running_loop()),
                timing=sleeps,
                draw=lambda draw=draw: draw,  # type: ignore[misc]
                monotonic=clock.monotonic,
            )
            async with made:
                assert least <= await asyncio.wait_for(sleeps.noted.get(), 60.0) <= most


@feature("T31")
async def test_people_steer_schedules_through_the_app(app: Holdfast, clock: ManualClock) -> None:
    schedules = app.schedules
    draft = await schedules.create("s", "report", every="1h", active=False)
    assert draft.status is ScheduleStatus.DRAFT
    assert (await schedules.resume("s")).status is ScheduleStatus.ACTIVE
    assert (await schedules.pause("s")).next_run_at is None
    edited = await schedules.edit("s", cron="0 9 * * *", zone="Europe/Berlin", max_count=2)
    assert (edited.rule, edited.max_count, edited.status) == ("0 9 * * *", 2, ScheduleStatus.INACTIVE)
    times = await schedules.next("s", 5)
    assert len(times) == 2  # the number of its jobs ends it
    assert {time.tzinfo for time in times} == {UTC}
    handle = await schedules.run("s")
    assert (await handle.get()).task == "report"
    assert (await schedules.get("s")).count == 0
    await schedules.delete("s")
    assert await schedules.list() == []


@feature("T31", "TW4")
async def test_bad_schedules_are_refused_and_nothing_is_stored(app: Holdfast) -> None:
    create = app.schedules.create
    with pytest.raises(UnknownTask, match="report"):
        await create("s", "reprot", every="1m")
    with pytest.raises(BadArguments, match="colour"):
        await create("s", "report", {"colour": "red"}, every="1m")
    with pytest.raises(BadArguments):
        await create("s", "report", {"kind": 5}, every="1m")
    for options in ({}, {"cron": "no"}, {"every": "1m", "zone": "Nowhere"}, {"every": "1m", "max_count": 0}):
        with pytest.raises(ConfigError):
            await create("s", "report", **options)
    for name in ("", "n" * 101, "a\nb"):
        with pytest.raises(ConfigError, match="schedule: expected 1 to 100"):
            await create(name, "report", every="1m")
    await app.definitions.cancel("report")
    with pytest.raises(TaskInactive):
        await create("s", "report", every="1m")
    assert await app.schedules.list() == []
    for call in (app.schedules.get, app.schedules.run, app.schedules.pause, app.schedules.delete, app.schedules.next):
        with pytest.raises(UnknownSchedule):
            await call("s")


@feature("T31")
async def test_a_taken_name_is_refused(app: Holdfast) -> None:
    await app.schedules.create("s", "report", every="1m")
    with pytest.raises(Conflict, match="exists"):
        await app.schedules.create("s", "report", every="2m")


@feature("T31")
async def test_a_task_whose_code_is_elsewhere_can_be_scheduled(app: Holdfast, clock: ManualClock) -> None:
    await app.open()
    await app.definitions.create("elsewhere", title="Elsewhere")
    made = await app.schedules.create("s", "elsewhere", {"a": 1}, cron="@daily")
    assert (made.task, made.payload) == ("elsewhere", b'{"a":1}')


@feature("T31")
def test_bad_declarations_are_refused_where_they_stand() -> None:
    app = Holdfast()

    @app.task("report")
    async def report() -> None: ...

    with pytest.raises(ConfigError, match="five fields"):
        app.task("bad", cron="no")(lambda: None)
    with pytest.raises(ConfigError, match="cron and every"):
        app.task("bad", cron="@daily", every="1m")(lambda: None)
    with pytest.raises(ConfigError, match="expected one of cron="):
        app.task("bad", zone="UTC")(lambda: None)
    assert app.tasks.get("bad") is None
    with pytest.raises(ConfigError, match="zone"):
        app.schedule("s", report, cron="@daily", zone="Nowhere")
    app.schedule("s", report, cron="@daily")
    with pytest.raises(ConfigError, match="found a second"):
        app.schedule("s", report, cron="@hourly")


@feature("T31")
async def test_a_declaration_for_an_unknown_task_or_with_wrong_arguments_stops_the_start() -> None:
    app = Holdfast()
    app.schedule("s", "nobody", cron="@daily")
    with pytest.raises(UnknownTask, match="nobody"):
        await app.work_once()
    app = Holdfast()

    @app.task("report", every="1m")
    async def report(needed: int) -> None: ...

    with pytest.raises(BadArguments, match="needed"):
        await app.work_once()
    await app.close()


@feature("T31")
def test_schedules_are_made_from_code_without_a_loop() -> None:
    app = Holdfast()

    @app.task("report")
    def report() -> None: ...

    made = app.sync(app.schedules.create("s", report, every="1m"))
    assert app.sync(app.schedules.list()) == [made]
    app.sync.close()
