"""Schedulers over a store: each tick becomes a job once, however many look at once, and whatever people change meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from holdfast.errors import ConfigError, Conflict, UnknownSchedule
from holdfast.job.commands import ChangeDefinition, Define
from holdfast.job.model import CatchUp, Job, Overlap, Schedule, ScheduleStatus
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.schedule import steering
from holdfast.schedule.drafts import read_options
from holdfast.schedule.scheduler import Fired, Scheduler
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness
from holdfast.worker.timing import LoopTiming

_COUNT = itertools.count(1)
ACTIVE, PAUSED = ScheduleStatus.ACTIVE, ScheduleStatus.INACTIVE


def scheduler(h: StoreHarness, alarms: list[BaseException] | None = None) -> Scheduler:
    """Return a scheduler that looks when it is told to."""

    def alarm(queue: str, job: Any, error: BaseException) -> None:
        if alarms is None:
            raise error
        alarms.append(error)

    return Scheduler(
        h.store,
        new_id=lambda: f"tick-{next(_COUNT):06d}",
        alarm=alarm,  # type: ignore[arg-type]  # all that is asked of an alarm is to be called
        timing=LoopTiming(h.clock),
        draw=lambda: 0.5,
        monotonic=h.clock.monotonic,
    )


async def made(h: StoreHarness, name: str = "s", *, active: bool = True, **options: Any) -> Schedule:
    """Make a schedule of task "t": every minute from the next full one unless said."""
    when = {} if any(word in options for word in ("cron", "rule", "at")) else {"every": "1m"}
    fields = read_options({**when, **options}, new=True)
    status = ACTIVE if active else ScheduleStatus.DRAFT
    return await steering.create(h.store, Schedule(**{"name": name, "task": h.task, "status": status, **fields}))


async def look(h: StoreHarness, after: float = 0.0, count: int = 1) -> list[Fired]:
    """Let time pass, and `count` schedulers look at once."""
    h.advance(after)
    return await asyncio.gather(*(scheduler(h).run_once() for _ in range(count)))


async def ticks(h: StoreHarness) -> list[str]:
    """Return the ticks of all jobs, by order of acceptance."""
    return [msgspec.json.decode(job.headers)["tick"] for job in await h.all_jobs()]


async def only(h: StoreHarness) -> Job:
    """Return the one job that there is."""
    [job] = await h.all_jobs()
    return job


class Ticks(StoreSuite):
    """Firing."""

    @feature("T31")
    async def test_a_tick_becomes_a_job_of_the_schedules_task_queue_and_payload(self, h: StoreHarness) -> None:
        policy = RetryPolicy(max_attempts=7)
        await h.store.define([Define(alias=h.task, retry=policy)])
        schedule = await made(h, queue="nightly", priority=4)
        schedule = await steering.edit(h.store, "s", {}, payload=b'{"kind":"full"}')
        assert schedule.next_run_at is not None
        assert (await look(h))[0].jobs == ()
        [fired] = await look(h, schedule.next_run_at - h.clock.now())
        job = await only(h)
        assert fired == Fired((job.id,), schedule.next_run_at + 60.0)
        assert (job.task, job.queue, job.priority, job.payload) == (h.task, "nightly", 4, b'{"kind":"full"}')
        assert (job.retry, job.tags) == (policy, ("schedule:s",))
        assert msgspec.json.decode(job.headers)["schedule"] == "s"
        assert [claim.id for claim in await h.claim(queues=("nightly",))] == [job.id]

    @feature("T31", "TW16", "A29")
    async def test_a29_of_five_schedulers_at_once_one_fires_each_tick(self, h: StoreHarness) -> None:
        await made(h)
        await made(h, "t", cron="*/2 * * * *", zone="Europe/Berlin")
        fired = [await look(h, 60.0, 5) for _ in range(20)]
        jobs = [job for looks in fired for look in looks for job in look.jobs]
        assert sorted(jobs) == sorted(job.id for job in await h.all_jobs())
        assert len(jobs) == 30
        counts = {one.name: one.count for one in await h.store.schedules()}
        assert counts == {"s": 20, "t": 10}
        assert len(set(await ticks(h))) == 20

    @feature("T31", "T32", "A29")
    @pytest.mark.parametrize(
        ("times", "wanted"),
        [
            ({"cron": "30 2 * * *"}, ["27 01:30", "28 01:00", "29 00:30", "30 00:30", "31 00:30"]),
            ({"rule": {"frequency": "weekly", "days_of_week": ["sat", "mon"]}}, ["27 01:30", "29 00:30"]),
            ({"rule": {"frequency": "monthly", "days_of_month": [-1]}}, ["31 00:30"]),
        ],
        ids=["daily", "weekly", "monthly"],
    )
    async def test_a29_rules_fire_on_their_days_over_a_change_of_the_clocks_and_once_for_two_schedulers(
        self, h: StoreHarness, times: dict[str, Any], wanted: list[str]
    ) -> None:
        # Half past two in Berlin; on 28 March 2027 it goes from two to three.
        start = datetime(2027, 3, 26, 1, 30, tzinfo=UTC).timestamp()
        h.advance(start + 3_600.0 - h.clock.now())
        if "rule" in times:
            times = {"rule": {**times["rule"], "starts_at": start}}
        await made(h, zone="Europe/Berlin", catch_up="all", **times)
        for _ in range(6):
            await look(h, 86_400.0 * 0.95, 2)
        found = [datetime.fromisoformat(tick).astimezone(UTC).strftime("%d %H:%M") for tick in await ticks(h)]
        assert found == wanted

    @feature("TW16")
    async def test_all_schedules_fire_however_many_there_are(self, h: StoreHarness) -> None:
        for number in range(25):
            await made(h, f"s{number:02d}")
        assert len((await look(h, 60.0))[0].jobs) == 25

    @feature("T31")
    @pytest.mark.parametrize(("catch_up", "count"), [(CatchUp.ONCE, 1), (CatchUp.ALL, 250), (CatchUp.SKIP, 1)], ids=str)
    async def test_ticks_that_nobody_saw_are_made_up_for_as_the_schedule_says(
        self, h: StoreHarness, catch_up: CatchUp, count: int
    ) -> None:
        await made(h, catch_up=catch_up)
        await look(h, 250 * 60.0)
        found = await ticks(h)
        assert (len(found), found) == (count, sorted(set(found)))
        await look(h)
        assert len(await ticks(h)) == count

    @feature("T31")
    async def test_what_was_missed_for_longer_is_skipped_where_the_schedule_says_so(self, h: StoreHarness) -> None:
        await made(h, every="1h", catch_up="skip")
        await look(h, 90 * 60.0 + 3_600.0 - h.clock.now() % 3_600.0)
        assert await ticks(h) == []
        await look(h, 1_800.0)
        assert len(await ticks(h)) == 1

    @feature("T31")
    async def test_a_tick_is_left_out_while_the_last_job_goes_on_if_jobs_must_not_overlap(
        self, h: StoreHarness
    ) -> None:
        await made(h, overlap=Overlap.SKIP)
        await made(h, "free")
        await look(h, 60.0)
        await look(h, 60.0)
        counts = {one.name: one.count for one in await h.store.schedules()}
        assert counts == {"s": 1, "free": 2}
        await h.run_all()
        await look(h, 60.0)
        counts = {one.name: one.count for one in await h.store.schedules()}
        assert counts == {"s": 2, "free": 3}

    @feature("T31", "TW16")
    async def test_a_schedule_completes_with_its_last_job(self, h: StoreHarness) -> None:
        await made(h, max_count=2)
        for _ in range(5):
            await look(h, 60.0, 3)
        after = await steering.find(h.store, "s")
        assert (after.count, after.status, after.next_run_at) == (2, ScheduleStatus.COMPLETED, None)
        assert len(await h.all_jobs()) == 2

    @feature("T31", "TW16")
    async def test_a_schedule_completes_at_its_end(self, h: StoreHarness) -> None:
        await made(h, end=h.clock.now() + 150.0)
        for _ in range(5):
            await look(h, 60.0, 2)
        after = await steering.find(h.store, "s")
        assert (after.status, after.next_run_at) == (ScheduleStatus.COMPLETED, None)
        assert after.count == len(await h.all_jobs()) == 2

    @feature("T31", "T32", "TW16")
    async def test_a_schedule_for_one_time_fires_once_and_completes(self, h: StoreHarness) -> None:
        await made(h, at=h.clock.now() + 90.0)
        for _ in range(4):
            await look(h, 60.0, 2)
        after = await steering.find(h.store, "s")
        assert (after.count, after.status) == (1, ScheduleStatus.COMPLETED)
        assert len(await h.all_jobs()) == 1

    @feature("T31", "TW4")
    async def test_ticks_of_a_stopped_task_wait_and_are_made_up_for_when_it_goes_on(self, h: StoreHarness) -> None:
        await h.store.define([Define(alias=h.task)])
        await made(h)
        await made(h, "last", max_count=1)
        await h.store.change_definition(ChangeDefinition(alias=h.task, status="canceled"))
        for _ in range(3):
            await look(h, 60.0, 2)
        assert await h.all_jobs() == []
        assert {one.status for one in await h.store.schedules()} == {ACTIVE}
        await h.store.change_definition(ChangeDefinition(alias=h.task, status="active"))
        await look(h, 0.0, 2)
        counts = {one.name: (one.count, str(one.status)) for one in await h.store.schedules()}
        assert counts == {"s": (1, "active"), "last": (1, "completed")}

    @feature("T31")
    async def test_a_rule_that_can_not_be_read_is_told_once_and_holds_up_no_other(self, h: StoreHarness) -> None:
        due = h.clock.now() + 60.0
        broken = Schedule(name="a", rule="from a later version", task=h.task, status=ACTIVE, next_run_at=due)
        await h.leave_schedule(broken)
        await made(h)
        alarms: list[BaseException] = []
        looking = scheduler(h, alarms)
        h.advance(60.0)
        assert len((await looking.run_once()).jobs) == 1
        h.advance(60.0)
        assert len((await looking.run_once()).jobs) == 1
        assert [type(alarm) for alarm in alarms] == [ConfigError]


class Steering(StoreSuite):
    """What people do with schedules."""

    @feature("T31")
    async def test_a_draft_fires_once_it_is_resumed(self, h: StoreHarness) -> None:
        draft = await made(h, active=False)
        assert (draft.status, draft.next_run_at) == (ScheduleStatus.DRAFT, None)
        await look(h, 120.0)
        assert await h.all_jobs() == []
        resumed = await steering.resume(h.store, "s")
        assert resumed.status is ACTIVE
        assert resumed.next_run_at is not None
        assert resumed.next_run_at > h.clock.now()
        await look(h, 60.0)
        assert len(await h.all_jobs()) == 1

    @feature("T31", "A30")
    async def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(self, h: StoreHarness) -> None:
        await made(h, catch_up="all")
        await look(h, 60.0)
        paused = await steering.pause(h.store, "s")
        assert (paused.status, paused.next_run_at, paused.count) == (PAUSED, None, 1)
        await look(h, 600.0)
        await steering.resume(h.store, "s")
        assert await steering.resume(h.store, "s") == await steering.find(h.store, "s")
        await look(h)
        assert len(await h.all_jobs()) == 1
        await look(h, 60.0)
        assert len(await h.all_jobs()) == 2

    @feature("T31", "TW15")
    async def test_changes_and_ticks_at_the_same_time_lose_nothing(self, h: StoreHarness) -> None:
        await made(h)

        async def edit(text: str) -> None:
            await steering.edit(h.store, "s", {"description": text})

        for number in range(10):
            h.advance(60.0)
            looking = (scheduler(h).run_once() for _ in range(3))
            await asyncio.gather(*looking, *(edit(f"{number} {way}") for way in range(3)))
        after = await steering.find(h.store, "s")
        assert (after.count, after.description[:1]) == (10, "9")
        assert len(await h.all_jobs()) == len(set(await ticks(h))) == 10

    @feature("T31")
    async def test_a_change_of_times_changes_the_next_time_and_another_does_not(self, h: StoreHarness) -> None:
        before = await made(h)
        same = await steering.edit(h.store, "s", {"priority": 9, "queue": "other"})
        assert (same.next_run_at, same.priority, same.queue) == (before.next_run_at, 9, "other")
        moved = await steering.edit(h.store, "s", {"cron": "@daily", "zone": "Asia/Tokyo"})
        assert moved.next_run_at is not None
        assert (moved.next_run_at + 9 * 3_600) % 86_400 == 0
        with pytest.raises(ConfigError):
            await steering.edit(h.store, "s", {"cron": "never"})
        with pytest.raises(ConfigError):
            await steering.edit(h.store, "s", {"end": 1_000.0})
        assert await steering.find(h.store, "s") == moved

    @feature("T31")
    async def test_a_completed_schedule_goes_on_with_a_higher_number(self, h: StoreHarness) -> None:
        await made(h, max_count=1)
        await look(h, 60.0)
        with pytest.raises(Conflict, match="made all of its 1 jobs"):
            await steering.resume(h.store, "s")
        again = await steering.edit(h.store, "s", {"max_count": 2})
        assert again.status is ACTIVE
        await look(h, 60.0)
        assert (await steering.find(h.store, "s")).status is ScheduleStatus.COMPLETED
        assert len(await h.all_jobs()) == 2

    @feature("T31", "T33")
    async def test_a_deleted_schedule_is_hidden_and_its_name_can_be_used_again(self, h: StoreHarness) -> None:
        await made(h)
        with pytest.raises(Conflict, match="exists"):
            await made(h)
        await steering.delete(h.store, "s")
        with pytest.raises(UnknownSchedule, match="known: none"):
            await steering.find(h.store, "s")
        await look(h, 120.0)
        assert await h.all_jobs() == []
        assert (await made(h)).count == 0
        await look(h, 60.0)
        assert len(await h.all_jobs()) == 1

    @feature("T31")
    async def test_a_job_run_by_hand_changes_neither_count_nor_next_time(self, h: StoreHarness) -> None:
        before = await made(h, active=False)
        answer = await steering.run_now(h.store, "s", lambda: "by-hand")
        assert (answer.id, (await h.job("by-hand")).state) == ("by-hand", State.QUEUED)
        assert await steering.find(h.store, "s") == before
        with pytest.raises(UnknownSchedule):
            await steering.run_now(h.store, "nobody", lambda: "x")

    @feature("T31")
    async def test_what_code_declares_is_made_once_and_what_people_did_is_kept(self, h: StoreHarness) -> None:
        fields = read_options({"every": "1m", "description": "old"}, new=True)
        declared = Schedule(name="s", task=h.task, status=ACTIVE, **fields)
        await asyncio.gather(*(steering.declare(h.store, [declared]) for _ in range(5)))
        await look(h, 60.0, 2)
        before = await steering.find(h.store, "s")
        assert before.count == 1
        assert await steering.declare(h.store, [declared]) == [before]
        newer = msgspec.structs.replace(declared, rule="every 120s", description="new")
        [refreshed] = await steering.declare(h.store, [newer])
        assert (refreshed.rule, refreshed.description, refreshed.count) == ("every 120s", "new", 1)
        await steering.pause(h.store, "s")
        [paused] = await steering.declare(h.store, [declared])
        assert (paused.status, paused.rule, paused.next_run_at) == (PAUSED, "every 60s", None)
        await steering.delete(h.store, "s")
        await steering.declare(h.store, [declared])
        assert await h.store.schedules() == []

    @feature("T31")
    async def test_a_worker_that_starts_sets_no_tick_back(self, h: StoreHarness) -> None:
        declared = Schedule(name="s", task=h.task, status=ACTIVE, rule="every 60s")
        newer = msgspec.structs.replace(declared, description="newer")
        await steering.declare(h.store, [declared])
        for number in range(12):
            h.advance(60.0)
            starts = (steering.declare(h.store, [one]) for one in (declared, newer) * 2)
            await asyncio.gather(*(scheduler(h).run_once() for _ in range(3)), *starts)
            assert len(await h.all_jobs()) == len(set(await ticks(h))) == number + 1
