"""Every row of the state table is shown, and every pair that the table does not have is refused with nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from holdfast.job.commands import (
    Action,
    Cancel,
    Delete,
    Edit,
    Order,
    Pause,
    Replay,
    Resume,
    Retry,
    RunNow,
    Selection,
    Snoozed,
)
from holdfast.job.state import FINAL, TRANSITIONS, Event, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import LONG, StoreHarness

#: What a person can ask for, and the events of the table that it may become. Which of them, the job's times decide.
ASKED: Final[dict[str, tuple[Action, tuple[Event, ...]]]] = {
    "cancel": (Cancel(), (Event.CANCEL, Event.ASK_CANCEL)),
    "pause": (Pause(), (Event.PAUSE,)),
    "resume": (Resume(), (Event.RESUME_QUEUED, Event.RESUME_RETRYING, Event.RESUME_SCHEDULED)),
    "retry": (Retry(), (Event.RETRY,)),
    "replay": (Replay(), (Event.REPLAY,)),
    "run now": (RunNow(), (Event.RUN_NOW,)),
    "edit": (Edit(priority=7), (Event.EDIT_DUE, Event.EDIT_LATER)),
    "delete": (Delete(), (Event.DELETE,)),
}


def _targets(state: State, events: Sequence[Event]) -> set[State]:
    return {TRANSITIONS[state, event] for event in events if (state, event) in TRANSITIONS}


MATRIX: Final = [
    pytest.param(state, action, _targets(state, events), id=f"{state}-{name}")
    for state in State
    for name, (action, events) in ASKED.items()
]
ALLOWED: Final = [case for case in MATRIX if case.values[2]]
FORBIDDEN: Final = [case for case in MATRIX if not case.values[2]]


class StateTable(StoreSuite):
    """What people ask for. The moves of workers and of the clock are shown by the source contract."""

    @feature("T9", "B8", "B44", "B16")
    @pytest.mark.parametrize(("state", "action", "targets"), ALLOWED)
    async def test_a_row_of_the_table_moves_the_job(
        self, h: StoreHarness, state: State, action: Action, targets: set[State]
    ) -> None:
        job = await h.in_state(state)
        after = await h.done(action, job.id)
        assert after is not None
        assert after.state in targets
        assert (after.id, after.seq, after.token, after.attempt) == (job.id, job.seq, job.token, job.attempt)

    @feature("T9", "B8", "B44")
    @pytest.mark.parametrize(("state", "action", "targets"), FORBIDDEN)
    async def test_a_pair_that_the_table_does_not_have_is_refused_for_that_id_and_changes_nothing(
        self, h: StoreHarness, state: State, action: Action, targets: set[State]
    ) -> None:
        job = await h.in_state(state)
        count = len(await h.all_jobs())
        fine = await h.in_state(_where_allowed(action))
        selection = Selection(ids=(job.id, fine.id))
        answer = await h.store.control(Order(action=action, selection=selection, who="ann"))
        first, second = answer.rulings
        assert (first.id, first.done, second.id, second.done) == (job.id, False, fine.id, True)
        assert state.value in first.why
        assert (answer.matched, answer.done, answer.refused) == (2, 1, 1)
        assert await h.job(job.id) == job
        assert len(await h.all_jobs()) == count + 1 + isinstance(action, Replay)

    @feature("T9")
    async def test_the_events_of_people_are_all_in_the_matrix(self) -> None:
        asked = {event for _, events in ASKED.values() for event in events}
        workers = {
            Event.DUE, Event.CLAIM, Event.HEARTBEAT, Event.PROGRESS, Event.SUCCEED, Event.SNOOZE, Event.RETRY_LATER,
            Event.REQUEUE, Event.RELEASE, Event.DEFER, Event.EXHAUST, Event.END_CANCELED, Event.PURGE,
        }  # fmt: skip
        assert asked | workers == set(Event)
        assert len(ALLOWED) + len(FORBIDDEN) == len(State) * len(ASKED)

    @feature("T9", "B11")
    @pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
    async def test_only_queued_jobs_are_claimed(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        assert await h.claim(instance="another") == ()
        assert await h.job(job.id) == job

    @feature("T9")
    async def test_resume_brings_a_job_that_is_due_to_queued(self, h: StoreHarness) -> None:
        job = await h.in_state(State.PAUSED)
        assert await _resumed(h, job.id) is State.QUEUED
        assert await h.claim_ids() == [job.id]

    @feature("T9")
    async def test_resume_brings_a_job_of_the_future_back_to_scheduled(self, h: StoreHarness) -> None:
        job = await h.add(delay=60.0)
        await h.done(Pause(), job.id)
        assert await _resumed(h, job.id) is State.SCHEDULED
        await h.done(Pause(), job.id)
        h.advance(60.0)
        assert await h.claim() == ()
        assert await _resumed(h, job.id) is State.QUEUED

    @feature("T9")
    async def test_resume_brings_a_job_in_its_backoff_back_to_retrying(self, h: StoreHarness) -> None:
        job = await h.in_state(State.RETRYING)
        await h.done(Pause(), job.id)
        assert await _resumed(h, job.id) is State.RETRYING
        h.advance(LONG)
        assert await h.claim_ids() == [job.id]

    @feature("T9")
    async def test_resume_brings_a_snoozed_job_back_to_scheduled(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_and_settle(Snoozed(60.0))
        await h.done(Pause(), job.id)
        assert await _resumed(h, job.id) is State.SCHEDULED

    @feature("T9", "G20")
    @pytest.mark.parametrize("state", sorted(FINAL))
    async def test_a_final_job_never_runs_again_unless_it_is_retried_or_replayed(
        self, h: StoreHarness, state: State
    ) -> None:
        job = await h.in_state(state)
        h.advance(LONG)
        await h.store.rescue()
        assert await h.claim() == ()
        assert (await h.job(job.id)).state is state


def _where_allowed(action: Action) -> State:
    """Return a state in which `action` is allowed and which needs no other job to be running or ready."""
    order = (State.SCHEDULED, State.PAUSED, State.CANCELED)
    events = next(events for known, events in ASKED.values() if known == action)
    return next(state for state in order if _targets(state, events))


async def _resumed(h: StoreHarness, job_id: str) -> State:
    job = await h.done(Resume(), job_id)
    assert job is not None
    return job.state
