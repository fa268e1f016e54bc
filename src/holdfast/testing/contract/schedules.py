"""Schedules: records with a next time that moves on together with the jobs of a tick, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.errors import Conflict, DuplicateJob, TooLarge, UnknownSchedule
from holdfast.job.commands import ENQUEUE_JOBS_MAX, ChangeDefinition, Define
from holdfast.job.model import CatchUp, OnConflict, Overlap, Schedule, ScheduleStatus
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness


async def saved(h: StoreHarness, name: str = "s", **fields: Any) -> Schedule:
    """Save an active schedule that is due in 60 seconds."""
    base = {"rule": "0 9 * * *", "task": "t", "status": ScheduleStatus.ACTIVE, "next_run_at": h.clock.now() + 60.0}
    return await h.store.save_schedule(Schedule(**{"name": name, **base, **fields}))


async def schedule(h: StoreHarness, name: str = "s") -> Schedule:
    """Return the schedule of that name."""
    return next(found for found in await h.store.schedules(deleted=True) if found.name == name)


class Schedules(StoreSuite):
    """Save, list, fire."""

    @feature("T31")
    async def test_a_schedule_is_kept_as_it_was_saved(self, h: StoreHarness) -> None:
        made = await saved(
            h,
            zone="Europe/Berlin",
            payload=b"[1]",
            queue="mail",
            priority=3,
            description="d",
            start_at=1.0,
            end_at=2e9,
            max_count=5,
            catch_up=CatchUp.ALL,
            overlap=Overlap.SKIP,
        )
        assert (made.created_at, made.updated_at) == (h.clock.now(), h.clock.now())
        assert await h.store.schedules() == [made]
        assert (made.zone, made.payload, made.catch_up, made.overlap) == (
            "Europe/Berlin",
            b"[1]",
            CatchUp.ALL,
            Overlap.SKIP,
        )

    @feature("T31")
    async def test_saving_again_replaces_it_and_keeps_when_it_was_made(self, h: StoreHarness) -> None:
        first = await saved(h)
        h.advance(1.0)
        second = await saved(h, description="new")
        assert (second.created_at, second.updated_at, second.description) == (
            first.created_at,
            h.clock.now(),
            "new",
        )
        assert await h.store.schedules() == [second]

    @feature("T31", "T33")
    async def test_schedules_are_listed_by_name_and_deleted_ones_only_if_asked(self, h: StoreHarness) -> None:
        for name in ("b", "c", "a"):
            await saved(h, name)
        await saved(h, "b", deleted_at=h.clock.now())
        assert [found.name for found in await h.store.schedules()] == ["a", "c"]
        assert [found.name for found in await h.store.schedules(deleted=True)] == ["a", "b", "c"]

    @feature("T31")
    async def test_a_tick_enqueues_its_jobs_and_moves_the_schedule_on_in_one_step(self, h: StoreHarness) -> None:
        due = (await saved(h)).next_run_at
        assert due is not None
        h.advance(60.0)
        assert await h.store.fire_schedule("s", due, [h.new(id="tick-1")], due + 60.0) is True
        after = await schedule(h)
        assert (after.next_run_at, after.last_run_at, after.last_job, after.count) == (
            due + 60.0,
            h.clock.now(),
            "tick-1",
            1,
        )
        assert after.status is ScheduleStatus.ACTIVE
        assert await h.claim_ids() == ["tick-1"]

    @feature("T31")
    async def test_whoever_rests_is_told_of_a_change_in_this_process_and_not_of_a_tick(self, h: StoreHarness) -> None:
        push: Any = getattr(h.store, "on_schedule", None)
        if push is None:
            return  # its schedulers look every few seconds
        calls: list[str] = []
        end = push(lambda: calls.append("told"))
        due = (await saved(h)).next_run_at
        assert (len(calls), due is not None) == (1, True)
        await h.store.fire_schedule("s", due or 0.0, [h.new()], None)
        assert len(calls) == 1
        await h.store.define([Define(alias="t")])
        await h.store.change_definition(ChangeDefinition(alias="t", status="canceled"))
        assert len(calls) == 2
        end()
        await h.store.change_definition(ChangeDefinition(alias="t", status="active"))
        assert len(calls) == 2

    @feature("T31")
    async def test_a_tick_fires_once(self, h: StoreHarness) -> None:
        due = (await saved(h)).next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [h.new()], due + 60.0) is True
        assert await h.store.fire_schedule("s", due, [h.new()], due + 60.0) is False
        assert await h.store.fire_schedule("s", due - 60.0, [h.new()], due + 60.0) is False
        assert len(await h.all_jobs()) == 1
        assert (await schedule(h)).count == 1

    async def test_of_many_schedulers_at_once_exactly_one_fires_each_tick(self, h: StoreHarness) -> None:
        first = (await saved(h)).next_run_at
        assert first is not None
        for tick in range(10):
            due = first + tick * 60.0
            fired = await asyncio.gather(*(h.store.fire_schedule("s", due, [h.new()], due + 60.0) for _ in range(8)))
            assert sum(fired) == 1
        assert len(await h.all_jobs()) == 10

    @feature("T31")
    async def test_the_last_tick_leaves_no_next_time_and_completes_the_schedule(self, h: StoreHarness) -> None:
        due = (await saved(h)).next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [h.new()], None) is True
        after = await schedule(h)
        assert (after.next_run_at, after.status, after.count) == (None, ScheduleStatus.COMPLETED, 1)
        assert await h.store.fire_schedule("s", due, [h.new()], None) is False

    @feature("T31")
    async def test_a_tick_may_enqueue_nothing_and_still_moves_on(self, h: StoreHarness) -> None:
        due = (await saved(h)).next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [], due + 60.0) is True
        after = await schedule(h)
        assert (after.next_run_at, after.count, await h.all_jobs()) == (due + 60.0, 0, [])

    @feature("T31")
    async def test_a_tick_whose_jobs_are_refused_does_not_move_the_schedule(self, h: StoreHarness) -> None:
        before = await saved(h)
        due = before.next_run_at
        assert due is not None
        await h.store.enqueue([h.new(unique="u")])
        with pytest.raises(DuplicateJob):
            await h.store.fire_schedule("s", due, [h.new(), h.new(unique="u")], due + 60.0)
        with pytest.raises(TooLarge):
            await h.store.fire_schedule("s", due, [h.new() for _ in range(ENQUEUE_JOBS_MAX + 1)], due + 60.0)
        assert await schedule(h) == before
        assert len(await h.all_jobs()) == 1

    @feature("T31")
    @pytest.mark.parametrize("status", [status for status in ScheduleStatus if status is not ScheduleStatus.ACTIVE])
    async def test_a_schedule_that_is_not_active_does_not_fire(self, h: StoreHarness, status: ScheduleStatus) -> None:
        before = await saved(h, status=status)
        due = before.next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [h.new()], due + 60.0) is False
        assert (await schedule(h), await h.all_jobs()) == (before, [])

    @feature("T31", "T33")
    async def test_a_deleted_schedule_does_not_fire(self, h: StoreHarness) -> None:
        due = (await saved(h, deleted_at=h.clock.now())).next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [h.new()], due + 60.0) is False
        assert await h.all_jobs() == []

    @feature("T31", "TW15")
    async def test_a_change_of_a_schedule_that_has_changed_meanwhile_is_refused(self, h: StoreHarness) -> None:
        seen = await saved(h)
        due = seen.next_run_at
        assert due is not None
        assert await h.store.fire_schedule("s", due, [h.new()], due + 60.0) is True
        fired = await schedule(h)
        with pytest.raises(Conflict, match="meanwhile"):
            await h.store.save_schedule(replace(seen, description="mine"), expect=seen.revision)
        assert await schedule(h) == fired
        changed = await h.store.save_schedule(replace(fired, description="mine"), expect=fired.revision)
        assert (changed.description, changed.count, changed.next_run_at) == ("mine", 1, due + 60.0)
        assert seen.revision < fired.revision < changed.revision

    @feature("T31")
    async def test_of_many_who_make_one_schedule_at_once_one_succeeds(self, h: StoreHarness) -> None:
        made = Schedule(name="s", rule="* * * * *", task="t")

        async def make(text: str) -> Schedule | None:
            try:
                return await h.store.save_schedule(replace(made, description=text), expect=0)
            except Conflict:
                return None

        answers = [answer for answer in await asyncio.gather(*map(make, "abcdefgh")) if answer is not None]
        assert answers == [await schedule(h)]

    @feature("T31")
    async def test_only_the_jobs_that_a_tick_made_are_counted(self, h: StoreHarness) -> None:
        due = (await saved(h)).next_run_at
        assert due is not None
        held = await h.add(unique="u")
        kept = h.new(unique="u", on_conflict=OnConflict.KEEP)
        assert await h.store.fire_schedule("s", due, [kept], due + 60.0) is True
        after = await schedule(h)
        assert (after.count, after.last_job) == (0, "")
        assert [job.id for job in await h.all_jobs()] == [held.id]

    @feature("T31")
    async def test_an_unknown_schedule_is_refused(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownSchedule):
            await h.store.fire_schedule("nobody", 1.0, [h.new()], 2.0)
        assert await h.all_jobs() == []
