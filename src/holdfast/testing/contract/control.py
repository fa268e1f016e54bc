"""What people do to single jobs: a ruling per id."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.job.commands import (
    Action,
    Cancel,
    Define,
    Delete,
    Edit,
    Failed,
    JobFilter,
    Order,
    Pause,
    Released,
    Replay,
    Resume,
    Retry,
    RunNow,
    Selection,
    Snoozed,
    Succeeded,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FINAL, End, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, FIXED, LONG, StoreHarness

ACTIONS: list[Action] = [Cancel(), Pause(), Resume(), Retry(), Replay(), RunNow(), Edit(priority=1), Delete()]


class Control(StoreSuite):
    """Cancel, pause, resume, run now, retry."""

    @feature("A14", "BW19")
    @pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
    async def test_an_unknown_id_is_refused_and_the_others_are_done(self, h: StoreHarness, action: Action) -> None:
        answer = await h.store.control(Order(action=action, selection=Selection(ids=("nobody",))))
        [ruling] = answer.rulings
        assert (ruling.id, ruling.done) == ("nobody", False)
        assert ruling.why
        assert (answer.done, answer.refused) == (0, 1)

    @feature("A14")
    async def test_rulings_come_in_the_order_of_the_ids(self, h: StoreHarness) -> None:
        ids = [job.id for job in await h.add_many(3)]
        asked = (ids[2], "nobody", ids[0])
        answer = await h.store.control(Order(action=Cancel(), selection=Selection(ids=asked)))
        assert [(ruling.id, ruling.done) for ruling in answer.rulings] == [
            (ids[2], True),
            ("nobody", False),
            (ids[0], True),
        ]
        assert (answer.done, answer.refused, answer.operation) == (2, 1, None)
        assert (await h.state(ids[1])) is State.QUEUED

    @feature("A14")
    @pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
    async def test_a_preview_counts_and_changes_nothing(self, h: StoreHarness, action: Action) -> None:
        jobs = [await h.in_state(State.PAUSED), await h.in_state(State.FAILED), await h.add()]
        selection = Selection(ids=tuple(job.id for job in jobs))
        answer = await h.store.control(Order(action=action, selection=selection, preview=True))
        assert answer.matched == 3
        assert await h.all_jobs() == jobs

    @feature("A30")
    async def test_a_cancel_tells_who_and_why(self, h: StoreHarness) -> None:
        waiting, running = await h.add(delay=LONG), await h.in_state(State.RUNNING)
        for job in (waiting, running):
            await h.order(Cancel(why="a mistake"), job.id, who="ann")
            ask = (await h.job(job.id)).cancel
            assert ask is not None
            assert (ask.who, ask.why, ask.at) == ("ann", "a mistake", h.clock.now())
        ended = await h.job(waiting.id)
        assert (ended.state, ended.finished_at) == (State.CANCELED, h.clock.now())

    @feature("A30")
    async def test_a_held_job_does_not_come_due(self, h: StoreHarness) -> None:
        job = await h.add(delay=60.0)
        held = await h.done(Pause(), job.id)
        assert held is not None
        assert held.paused_by == "ann"
        h.advance(120.0)
        await h.store.rescue()
        assert await h.claim() == ()
        assert (await h.state(job.id)) is State.PAUSED

    @feature("T27")
    @pytest.mark.parametrize("state", [State.SCHEDULED, State.RETRYING])
    async def test_run_now_makes_a_waiting_job_ready(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        await h.done(RunNow(), job.id)
        assert await h.claim_ids() == [job.id]
        h.advance(2 * LONG)
        assert (await h.wanted()).next_due is None

    @feature("G20", "T18")
    @pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
    async def test_a_retry_gives_new_budgets_keeps_the_history_and_lets_the_token_grow(
        self, h: StoreHarness, state: State
    ) -> None:
        job = await h.add(retry=RetryPolicy(max_attempts=2, base=0.0, cap=0.0))
        await h.claim_and_settle(Snoozed(0.0))
        await h.claim_and_settle(Released("stop"))
        old = await h.claim_one()
        await h.settle(old, Failed(ERROR))
        if state is State.FAILED:
            old = await h.claim_one()
            await h.settle(old, Failed(ERROR))
        else:
            await h.done(Cancel(), job.id)
        before = await h.job(job.id)
        after = await h.done(Retry(), job.id)
        assert after is not None
        assert (after.state, after.generation, after.finished_at) == (State.QUEUED, before.generation + 1, None)
        assert (after.failures, after.losses, after.crashes, after.snoozes, after.releases) == (0, 0, 0, 0, 0)
        assert (after.attempt, after.token, after.attempts) == (before.attempt, before.token, before.attempts)
        assert (after.cancel, after.deleted_at) == (None, None)
        claim = await h.claim_one()
        assert (claim.attempt, claim.token > old.token) == (old.attempt + 1, True)
        await h.settle(claim, Failed(ERROR))
        assert (await h.state(job.id)) is State.RETRYING

    @feature("A5", "G20")
    async def test_a_retried_job_forgets_its_crashes_and_its_suspicion(self, h: StoreHarness) -> None:
        job = await h.add()
        for _ in range(3):
            await h.claim_one()
            await h.died()
        while (await h.state(job.id)) is not State.FAILED:
            await h.claim_one()
            await h.died()
        await h.done(Retry(), job.id)
        claim = await h.claim_one()
        assert (claim.suspect, (await h.job(job.id)).crashes) == (False, 0)

    async def test_many_who_retry_one_job_at_once_open_one_generation(self, h: StoreHarness) -> None:
        job = await h.in_state(State.FAILED)
        rulings = await asyncio.gather(*(h.order(Retry(), job.id) for _ in range(10)))
        assert sum(ruling.done for ruling in rulings) == 1
        assert (await h.job(job.id)).generation == 1


class Editing(StoreSuite):
    """Change a waiting job."""

    @feature("T27")
    async def test_an_edit_changes_what_it_names_and_leaves_the_rest(self, h: StoreHarness) -> None:
        job = await h.add(payload=b"1", priority=1)
        edited = await h.done(Edit(payload=b"2"), job.id)
        assert edited is not None
        assert (edited.payload, edited.priority, edited.queue, edited.run_at) == (b"2", 1, job.queue, job.run_at)
        assert (edited.state, edited.seq) == (State.QUEUED, job.seq)

    async def test_a_new_queue_moves_it(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.done(Edit(queue="other"), job.id)
        assert await h.claim() == ()
        assert await h.claim_ids(queues=("other",)) == [job.id]
        assert [queue.name for queue in await h.store.queues()] == [h.queue, "other"]
        assert (await h.store.stats()).queues["other"]["running"] == 1

    async def test_a_new_priority_moves_it_in_the_order(self, h: StoreHarness) -> None:
        first, second = await h.add_many(2)
        await h.done(Edit(priority=10), second.id)
        assert await h.claim_ids() == [second.id, first.id]

    @pytest.mark.parametrize(
        ("state", "after"),
        [
            (State.QUEUED, State.SCHEDULED),
            (State.SCHEDULED, State.SCHEDULED),
            (State.RETRYING, State.RETRYING),
            (State.PAUSED, State.PAUSED),
        ],
    )
    async def test_a_time_ahead_makes_it_wait(self, h: StoreHarness, state: State, after: State) -> None:
        job = await h.in_state(state)
        when = h.clock.now() + 60.0
        edited = await h.done(Edit(run_at=when), job.id)
        assert edited is not None
        assert (edited.state, edited.run_at) == (after, when)
        h.advance(59.0)
        assert await h.claim() == ()
        h.advance(1.0)
        assert await h.claim_ids() == ([] if state is State.PAUSED else [job.id])

    @pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.RETRYING])
    async def test_a_time_that_has_come_makes_it_ready(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        edited = await h.done(Edit(run_at=h.clock.now()), job.id)
        assert edited is not None
        assert edited.state is State.QUEUED
        assert await h.claim_ids() == [job.id]

    async def test_a_held_job_goes_on_by_its_new_time(self, h: StoreHarness) -> None:
        job = await h.in_state(State.PAUSED)
        await h.done(Edit(run_at=h.clock.now() + 60.0), job.id)
        resumed = await h.done(Resume(), job.id)
        assert resumed is not None
        assert resumed.state is State.SCHEDULED

    async def test_an_edit_of_one_job_behind_a_key_keeps_the_line(self, h: StoreHarness) -> None:
        head, behind = await h.add_many(2, key="k")
        await h.done(Edit(priority=50), behind.id)
        assert await h.run_all() == [head.id, behind.id]


#: What `@app.task` tells of a function that takes n: int and m: str = "".
TYPED = (
    b'{"type":"object","properties":{"n":{"type":"integer"},"m":{"type":"string"}},"required":["n"],'
    b'"additionalProperties":false}'
)
MISFITS = {b"{}": "missing argument 'n'", b'{"n":"1"}': "argument 'n'", b'{"n":1,"o":1}': "unknown argument 'o'"}


class Misfits(StoreSuite):
    """Arguments that a task does not take, where its definition says what it takes."""

    @feature("T10", "T27", "A14")
    async def test_an_edit_to_arguments_that_do_not_fit_is_refused_and_changes_nothing(self, h: StoreHarness) -> None:
        await h.store.define([Define(alias=h.task, parameters=TYPED)])
        job = await h.add(payload=b'{"n":1}')
        for payload, said in MISFITS.items():
            ruling = await h.order(Edit(payload=payload, priority=5), job.id)
            assert (ruling.done, said in ruling.why, h.task in ruling.why) == (False, True, True)
        assert await h.job(job.id) == job
        edited = await h.done(Edit(payload=b'{"n":2,"m":"x"}', priority=5), job.id)
        assert edited is not None
        assert (edited.payload, edited.priority) == (b'{"n":2,"m":"x"}', 5)

    @feature("T10", "T27", "A14")
    async def test_a_replay_with_arguments_that_do_not_fit_is_refused_and_makes_nothing(self, h: StoreHarness) -> None:
        await h.store.define([Define(alias=h.task, parameters=TYPED)])
        job = await h.in_state(State.FAILED, payload=b'{"n":1}')
        for payload, said in MISFITS.items():
            ruling = await h.order(Replay(payload=payload), job.id)
            assert (ruling.done, said in ruling.why) == (False, True)
        assert await h.all_jobs() == [job]
        assert (await h.order(Replay(payload=b'{"n":2}'), job.id)).done

    @feature("T10", "A14")
    async def test_an_edit_by_a_filter_refuses_each_job_that_it_does_not_fit(self, h: StoreHarness) -> None:
        await h.store.define([Define(alias="typed", parameters=TYPED), Define(alias="open")])
        typed, free = await h.add(task="typed", payload=b'{"n":1}'), await h.add(task="open")
        order = Order(action=Edit(payload=b'{"any":1}'), selection=Selection(filter=JobFilter()), who="ann")
        answer = await h.store.control(order)
        assert (answer.done, answer.refused, [one.id for one in answer.refusals]) == (1, 1, [typed.id])
        assert (await h.job(typed.id), (await h.job(free.id)).payload) == (typed, b'{"any":1}')


class Replays(StoreSuite):
    """A new job like one that has ended."""

    @feature("A14", "T33")
    @pytest.mark.parametrize("state", sorted(FINAL))
    async def test_a_replay_is_a_new_job_that_names_the_old_one(self, h: StoreHarness, state: State) -> None:
        fields = {"payload": b"[1]", "priority": 3, "tags": ("x",), "headers": b'{"a":"b"}', "timeout": 9.0}
        old = await h.in_state(state, **fields)
        ruling = await h.order(Replay(), old.id)
        assert ruling.done
        assert ruling.made not in ("", old.id)
        new = await h.job(ruling.made)
        assert {name: getattr(new, name) for name in fields} == fields
        assert (new.task, new.queue, new.retry, new.replay_of) == (old.task, old.queue, FIXED, old.id)
        assert (new.state, new.attempt, new.generation, new.last) == (State.QUEUED, 0, 0, None)
        after = await h.job(old.id)
        assert (after.state, after.replayed_by) == (state, new.id)
        assert await h.claim_ids() == [new.id]

    @feature("A14")
    async def test_a_second_replay_is_refused_unless_it_is_forced(self, h: StoreHarness) -> None:
        old = await h.in_state(State.SUCCEEDED)
        first = await h.order(Replay(), old.id)
        refused = await h.order(Replay(), old.id)
        assert (refused.done, refused.made, first.made in refused.why) == (False, "", True)
        forced = await h.order(Replay(force=True), old.id)
        assert forced.done
        assert forced.made not in (first.made, old.id)
        assert len(await h.all_jobs()) == 3

    @feature("A14")
    async def test_of_many_replays_at_once_one_is_made(self, h: StoreHarness) -> None:
        old = await h.in_state(State.FAILED)
        rulings = await asyncio.gather(*(h.order(Replay(), old.id) for _ in range(10)))
        assert sum(ruling.done for ruling in rulings) == 1
        assert len(await h.all_jobs()) == 2

    async def test_a_replay_may_change_payload_and_queue(self, h: StoreHarness) -> None:
        old = await h.in_state(State.FAILED, payload=b"1")
        ruling = await h.order(Replay(payload=b"2", queue="other"), old.id)
        new = await h.job(ruling.made)
        assert (new.payload, new.queue) == (b"2", "other")

    async def test_a_replay_of_a_replay_names_its_own_parent(self, h: StoreHarness) -> None:
        old = await h.in_state(State.SUCCEEDED)
        child = (await h.order(Replay(), old.id)).made
        await h.claim_and_settle()
        grandchild = (await h.order(Replay(), child)).made
        assert (await h.job(grandchild)).replay_of == child


class Deleting(StoreSuite):
    """Hide or purge."""

    @feature("T33")
    async def test_a_deleted_job_is_hidden_from_lists_and_counts_and_still_there(self, h: StoreHarness) -> None:
        kept, gone = await h.in_state(State.SUCCEEDED), await h.in_state(State.FAILED)
        await h.done(Delete(), gone.id)
        assert [job.id for job in await h.all_jobs(deleted=False)] == [kept.id]
        assert await h.store.count(JobFilter()) == 1
        assert [job.id for job in await h.all_jobs()] == [kept.id, gone.id]
        hidden = await h.job(gone.id)
        assert (hidden.state, hidden.deleted_at) == (State.FAILED, h.clock.now())

    @feature("T33")
    @pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED])
    async def test_a_waiting_job_is_canceled_in_the_same_step(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        hidden = await h.done(Delete(), job.id)
        assert hidden is not None
        now = h.clock.now()
        assert (hidden.state, hidden.deleted_at, hidden.finished_at) == (State.CANCELED, now, now)
        h.advance(2 * LONG)
        assert await h.claim() == ()

    @feature("T33")
    @pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
    async def test_a_hard_delete_purges_at_once(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        assert await h.done(Delete(hard=True), job.id) is None
        assert await h.all_jobs() == []
        assert (await h.store.stats()).total(State.CANCELED) == 0
        assert await h.claim() == ()

    async def test_a_hard_delete_of_a_running_job_is_refused(self, h: StoreHarness) -> None:
        job = await h.in_state(State.RUNNING)
        assert not (await h.order(Delete(hard=True), job.id)).done
        assert await h.job(job.id) == job

    async def test_a_hidden_job_can_be_purged(self, h: StoreHarness) -> None:
        job = await h.in_state(State.SUCCEEDED)
        await h.done(Delete(), job.id)
        assert await h.done(Delete(hard=True), job.id) is None
        assert await h.all_jobs() == []

    @feature("A6", "BW19")
    async def test_a_stale_worker_of_a_purged_job_is_refused(self, h: StoreHarness) -> None:
        job = await h.add()
        stale = await h.claim_one()
        await h.lose()
        await h.done(Delete(hard=True), job.id)
        answer = await h.settle(stale, Succeeded(b"1"))
        assert (answer.accepted.value, answer.state) == ("stale", None)
        assert await h.store.jobs([job.id]) == [None]

    @feature("A6", "T19")
    @pytest.mark.parametrize("action", [Pause(), Delete(), Cancel(), Edit(run_at=2e9), Retry()], ids=str)
    async def test_a_stale_worker_changes_nothing_after_what_a_person_did(
        self, h: StoreHarness, action: Action
    ) -> None:
        job = await h.add()
        stale = await h.claim_one()
        await h.lose()
        if isinstance(action, Retry):
            await h.done(Cancel(), job.id)
        await h.done(action, job.id)
        before = await h.job(job.id)
        for ending in (Succeeded(b"1"), Failed(ERROR), Snoozed(1.0), Released("stop")):
            answer = await h.settle(stale, ending)
            assert (answer.accepted.value, answer.state) == ("stale", before.state)
        after = await h.job(job.id)
        assert (after.state, after.result, after.failures) == (before.state, before.result, before.failures)
        assert after.last is not None
        assert after.last.end in (End.LOST, End.STALE)
