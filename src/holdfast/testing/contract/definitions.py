"""Definitions: what people read of a task, and the switch that stops and starts its jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.errors import ConfigError, Conflict, TaskInactive, UnknownTask
from holdfast.job.commands import (
    Action,
    ChangeDefinition,
    Define,
    DefinitionFilter,
    Ending,
    Failed,
    Pause,
    Released,
    Resume,
    Retry,
    RunNow,
    Snoozed,
)
from holdfast.job.model import Definition, Schedule, TaskStatus
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FINAL, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, LONG, StoreHarness

#: The two ways in which a definition stops its jobs, and their opposites.
STOPS = {"canceled": ({"status": "canceled"}, {"status": "active"}), "deleted": ({"deleted": True}, {"deleted": False})}
every_stop = pytest.mark.parametrize(("stop", "start"), STOPS.values(), ids=STOPS.keys())


async def defined(h: StoreHarness, alias: str = "t", **fields: Any) -> Definition:
    """Make a definition."""
    [definition] = await h.store.define([Define(**{"alias": alias, **fields})])
    return definition


async def change(h: StoreHarness, alias: str = "t", **fields: Any) -> Definition:
    """Change a definition."""
    return await h.store.change_definition(ChangeDefinition(**{"alias": alias, "who": "ann", **fields}))


class Definitions(StoreSuite):
    """Records of tasks."""

    @feature("T3", "T4")
    async def test_a_definition_is_made_and_found_by_alias_and_by_id(self, h: StoreHarness) -> None:
        policy = RetryPolicy(max_attempts=2)
        made = await defined(h, "mail", title="Mail", description="sends", memo="ask ann", retry=policy, timeout=3.0)
        assert (made.alias, made.title, made.description, made.memo) == ("mail", "Mail", "sends", "ask ann")
        assert (made.status, made.retry, made.timeout) == (TaskStatus.ACTIVE, policy, 3.0)
        assert (made.created_at, made.deleted_at, made.runs) == (h.clock.now(), None, True)
        assert made.id
        assert await h.store.definition("mail") == made
        assert await h.store.definition(made.id) == made

    @feature("T3")
    async def test_an_unknown_definition_is_refused_by_name(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownTask, match="nobody"):
            await h.store.definition("nobody")
        with pytest.raises(UnknownTask, match="nobody"):
            await change(h, "nobody", title="x")

    @feature("T6")
    async def test_defining_again_brings_it_up_to_date_and_leaves_its_switch(self, h: StoreHarness) -> None:
        first = await defined(h, title="old")
        await change(h, status="canceled")
        h.advance(1.0)
        again = await defined(h, title="new", queue="mail")
        assert (again.id, again.title, again.queue, again.status) == (first.id, "new", "mail", TaskStatus.CANCELED)
        assert (again.created_at, again.updated_at) == (first.created_at, h.clock.now())
        assert len(await h.store.definitions(DefinitionFilter())) == 1

    @feature("T3")
    async def test_an_alias_that_is_taken_can_be_refused_and_nothing_is_made(self, h: StoreHarness) -> None:
        first = await defined(h)
        with pytest.raises(Conflict):
            await h.store.define([Define(alias="new"), Define(alias="t", only_new=True)])
        assert await h.store.definitions(DefinitionFilter()) == [first]

    @feature("T3")
    async def test_of_many_who_define_one_alias_at_once_all_get_the_same_one(self, h: StoreHarness) -> None:
        made = await asyncio.gather(*(defined(h) for _ in range(10)))
        assert len({definition.id for definition in made}) == 1

    @feature("T3", "T26")
    async def test_definitions_are_listed_by_alias_filtered_and_in_parts(self, h: StoreHarness) -> None:
        for alias in ("c", "a", "d", "b"):
            await defined(h, alias)
        await change(h, "b", status="canceled")
        await change(h, "d", deleted=True)

        async def listed(**fields: Any) -> list[str]:
            found = await h.store.definitions(DefinitionFilter(**fields))
            return [definition.alias for definition in found]

        assert await listed() == ["a", "b", "c"]
        assert await listed(deleted=True) == ["a", "b", "c", "d"]
        assert await listed(status="canceled") == ["b"]
        assert await listed(status="active") == ["a", "c"]
        assert await listed(aliases=("c", "a", "nobody")) == ["a", "c"]
        assert await listed(limit=2) == ["a", "b"]
        assert await listed(limit=2, offset=2) == ["c"]

    @feature("T3", "T4")
    async def test_an_edit_changes_what_it_names(self, h: StoreHarness) -> None:
        made = await defined(h, title="old", memo="keep")
        h.advance(1.0)
        edited = await change(h, title="new", description="d")
        assert (edited.title, edited.description, edited.memo) == ("new", "d", "keep")
        assert (edited.created_at, edited.updated_at) == (made.created_at, h.clock.now())
        assert await h.store.definition("t") == edited

    @feature("T3", "T4")
    async def test_an_alias_can_be_changed_to_a_free_one(self, h: StoreHarness) -> None:
        made = await defined(h)
        await defined(h, "taken")
        with pytest.raises(Conflict):
            await change(h, new_alias="taken")
        renamed = await change(h, new_alias="free")
        assert (renamed.id, renamed.alias) == (made.id, "free")
        assert (await h.store.definition("free")).id == made.id
        assert (await h.store.definition(made.id)).alias == "free"
        with pytest.raises(UnknownTask):
            await h.store.definition("t")

    @feature("T33")
    async def test_a_deleted_definition_is_hidden_and_can_still_be_read(self, h: StoreHarness) -> None:
        await defined(h)
        deleted = await change(h, deleted=True)
        assert (deleted.deleted_at, deleted.runs) == (h.clock.now(), False)
        assert await h.store.definitions(DefinitionFilter()) == []
        assert await h.store.definition("t") == deleted
        assert (await change(h, deleted=False)).runs

    @feature("T3")
    async def test_a_definition_that_nothing_uses_can_be_forgotten_and_made_anew(self, h: StoreHarness) -> None:
        old = await defined(h, title="old")
        ended = await h.in_state(State.SUCCEEDED)
        await defined(h, "kept")
        await change(h, status="canceled")
        await h.store.delete_definition(old.id, "ann")
        assert [one.alias for one in await h.store.definitions(DefinitionFilter(deleted=True))] == ["kept"]
        for gone in ("t", old.id):
            with pytest.raises(UnknownTask):
                await h.store.definition(gone)
            with pytest.raises(UnknownTask):
                await h.store.delete_definition(gone)
        assert await h.job(ended.id) == ended
        assert (await h.add()).state is State.QUEUED  # nothing switches it off any more
        new = await defined(h)
        assert (new.id != old.id, new.title, new.runs) == (True, "", True)

    @feature("T3")
    @pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
    async def test_a_definition_with_unfinished_jobs_cannot_be_forgotten(self, h: StoreHarness, state: State) -> None:
        made = await defined(h)
        await h.in_state(state)
        with pytest.raises(Conflict, match="unfinished"):
            await h.store.delete_definition("t")
        assert await h.store.definition("t") == made

    @feature("T3", "T31")
    async def test_a_definition_with_schedules_cannot_be_forgotten_until_they_are_deleted(
        self, h: StoreHarness
    ) -> None:
        await defined(h)
        schedule = await h.store.save_schedule(Schedule(name="nightly", rule="@daily", task="t"))
        with pytest.raises(Conflict, match="nightly"):
            await h.store.delete_definition("t")
        await h.store.save_schedule(replace(schedule, deleted_at=h.clock.now()))
        await h.store.delete_definition("t")
        assert await h.store.definitions(DefinitionFilter()) == []

    @feature("T3", "T4")
    @pytest.mark.parametrize("alias", ["", "x" * 101, "a b", "-x", "a\nb", "\ud800"], ids=ascii)
    async def test_an_alias_that_is_no_name_is_refused_and_nothing_is_changed(
        self, h: StoreHarness, alias: str
    ) -> None:
        made = await defined(h)
        with pytest.raises(ConfigError, match="alias"):
            await defined(h, alias)
        with pytest.raises(ConfigError, match="alias"):
            await change(h, new_alias=alias)
        assert await h.store.definitions(DefinitionFilter()) == [made]

    @feature("T4")
    @pytest.mark.parametrize(
        ("field", "text"), [("title", "x" * 256), ("description", "x" * 16_385), ("memo", "\x00"), ("memo", "\ud800")]
    )
    async def test_texts_that_are_too_long_or_unclean_are_refused(self, h: StoreHarness, field: str, text: str) -> None:
        made = await defined(h)
        for wrong in (defined(h, "new", **{field: text}), change(h, **{field: text})):
            with pytest.raises(ConfigError, match=field):
                await wrong
        assert await h.store.definitions(DefinitionFilter()) == [made]


class DefinitionSwitch(StoreSuite):
    """A definition that is canceled or deleted stops its jobs; active again, it lets them go on."""

    @feature("T4", "TW4")
    @every_stop
    async def test_nothing_can_be_enqueued_for_it(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]
    ) -> None:
        await defined(h)
        await change(h, **stop)
        with pytest.raises(TaskInactive):
            await h.store.enqueue([h.new(task="other"), h.new()])
        assert await h.all_jobs() == []
        await change(h, **start)
        assert (await h.add()).state is State.QUEUED

    @feature("T4", "T33", "TW4")
    async def test_a_deleted_one_is_not_switched_but_restored_and_each_refusal_says_so(self, h: StoreHarness) -> None:
        await defined(h)
        await change(h, status="canceled")
        with pytest.raises(TaskInactive, match=r"is canceled.* Activate it"):
            await h.add()
        await change(h, status="active")
        deleted = await change(h, deleted=True)
        with pytest.raises(TaskInactive, match=r"is deleted.* Restore it"):
            await h.add()
        for status in ("active", "canceled"):
            with pytest.raises(Conflict, match="Restore it first"):
                await change(h, status=status)
        assert await h.store.definition("t") == deleted
        assert (await change(h, deleted=False, status="active")).runs

    @feature("T4", "TW4")
    @every_stop
    async def test_its_waiting_jobs_are_held_and_go_on_where_they_were(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]
    ) -> None:
        await defined(h)
        retrying = await h.in_state(State.RETRYING)
        ready, later = await h.add(), await h.add(delay=LONG)
        other = await h.add(task="other")
        await change(h, **stop)
        jobs = [await h.job(job.id) for job in (ready, later, retrying)]
        assert [(job.state, job.paused_by) for job in jobs] == [(State.PAUSED, "task")] * 3
        assert await h.claim_ids() == [other.id]
        await change(h, **start)
        states = [await h.state(job.id) for job in (ready, later, retrying)]
        assert states == [State.QUEUED, State.SCHEDULED, State.RETRYING]
        assert await h.claim_ids() == [ready.id]

    @feature("T4")
    @every_stop
    async def test_a_job_that_a_person_holds_stays_held_when_the_task_goes_on(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]
    ) -> None:
        await defined(h)
        job = await h.add()
        await h.done(Pause(), job.id)
        held = await h.job(job.id)
        await change(h, **stop)
        await change(h, **start)
        after = await h.job(job.id)
        assert (after.state, after.paused_by) == (State.PAUSED, held.paused_by)
        assert held.paused_by not in ("", "task")

    @feature("T4")
    @every_stop
    async def test_more_waiting_jobs_than_one_batch_are_all_held_and_all_go_on(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]
    ) -> None:
        await defined(h)
        await h.add_many(1_500)
        await h.add_many(1_000, delay=LONG)
        await change(h, **stop)
        assert (await h.store.stats()).total(State.PAUSED) == 2_500
        await change(h, **start)
        stats = await h.store.stats()
        assert (stats.total(State.QUEUED), stats.total(State.SCHEDULED)) == (1_500, 1_000)

    @feature("T4")
    @every_stop
    async def test_a_running_job_may_finish(self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]) -> None:
        await defined(h)
        await h.add()
        claim = await h.claim_one()
        await change(h, **stop)
        assert [held.cancel for held in (await h.beat()).held] == [False]
        assert (await h.settle(claim)).state is State.SUCCEEDED

    @feature("T4", "TW4")
    @every_stop
    @pytest.mark.parametrize("ending", [Failed(ERROR), Snoozed(0.0), Released("stop"), None])
    async def test_a_job_that_comes_back_is_not_handed_out_until_the_task_goes_on(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any], ending: Ending | None
    ) -> None:
        await defined(h)
        job = await h.add()
        claim = await h.claim_one()
        await change(h, **stop)
        if ending is None:
            await h.lose()
        else:
            await h.settle(claim, ending)
        h.advance(60.0)
        assert await h.claim() == ()
        await change(h, **start)
        assert await h.claim_ids() == [job.id]

    @feature("T4", "TW4")
    @every_stop
    @pytest.mark.parametrize("action", [Resume(), Retry(), RunNow()], ids=["resume", "retry", "run now"])
    async def test_no_person_can_make_a_job_run_while_its_task_does_not(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any], action: Action
    ) -> None:
        await defined(h)
        job = await h.in_state(State.FAILED if isinstance(action, Retry) else State.QUEUED)
        await change(h, **stop)
        await h.order(action, job.id)
        h.advance(60.0)
        assert await h.claim() == ()
        await change(h, **start)
        wanted = [] if (await h.job(job.id)).state is State.FAILED else [job.id]
        assert await h.claim_ids() == wanted

    @feature("T4")
    @every_stop
    async def test_a_key_is_not_held_by_a_job_whose_task_does_not_run(
        self, h: StoreHarness, stop: dict[str, Any], start: dict[str, Any]
    ) -> None:
        await defined(h)
        await h.add(key="k")
        behind = await h.add(key="k", task="other")
        await change(h, **stop)
        assert await h.claim_ids() == [behind.id]
