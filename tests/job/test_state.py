"""The table of moves says all that can happen to a job, and nothing twice."""

import pytest

from holdfast.errors import Conflict, IllegalTransition
from holdfast.job.state import FAILURES, FINAL, ROWS, TRANSITIONS, WAITING, End, Event, State, allowed, step
from tests.features import feature

PAIRS = [(state, event) for state in State for event in Event]
RULES = {(row.source, row.event): row for row in ROWS}


@feature("T9", "B44")
@pytest.mark.parametrize(("state", "event"), PAIRS, ids=[f"{state}-{event}" for state, event in PAIRS])
def test_a_pair_moves_by_its_row_or_is_refused_by_name(state: State, event: Event) -> None:
    row = RULES.get((state, event))
    assert allowed(state, event) is (row is not None)
    if row is not None:
        assert step(state, event, "job 1") is row.target
        return
    with pytest.raises(IllegalTransition) as caught:
        step(state, event, "job 1")
    assert (caught.value.state, caught.value.event) == (state, event)
    assert isinstance(caught.value, Conflict)
    for word in ("job 1", repr(state), repr(event)):
        assert word in str(caught.value)


@feature("T9")
def test_no_row_stands_twice_and_every_row_says_when_it_holds() -> None:
    assert len(ROWS) == len(RULES) == len(TRANSITIONS)
    assert all(row.guard for row in ROWS)


@feature("T9")
def test_every_event_and_every_state_is_used() -> None:
    assert {row.event for row in ROWS} == set(Event)
    assert {row.source for row in ROWS} == set(State)
    reached, following = {State.QUEUED, State.SCHEDULED}, True
    while following:
        more = {row.target for row in ROWS if row.source in reached} - reached
        following = bool(more)
        reached |= more
    assert reached == set(State)


@feature("T9", "B8")
def test_only_a_retry_leaves_a_final_state_and_no_worker_can() -> None:
    leaving = {row.event for row in ROWS if row.source in FINAL and row.target is not row.source}
    assert leaving == {Event.RETRY}
    assert (State.SUCCEEDED, Event.RETRY) not in TRANSITIONS


@feature("B11", "B12", "TW4")
def test_only_queued_jobs_are_claimed_and_only_running_jobs_are_settled() -> None:
    assert [row.source for row in ROWS if row.event is Event.CLAIM] == [State.QUEUED]
    settles = {
        Event.SUCCEED, Event.SNOOZE, Event.RETRY_LATER, Event.REQUEUE, Event.RELEASE, Event.DEFER, Event.EXHAUST,
        Event.END_CANCELED, Event.PROGRESS, Event.HEARTBEAT, Event.ASK_CANCEL,
    }  # fmt: skip
    assert {row.source for row in ROWS if row.event in settles} == {State.RUNNING}


@feature("T9")
def test_every_state_is_waiting_running_or_final() -> None:
    assert WAITING | FINAL | {State.RUNNING} == set(State)
    assert not WAITING & FINAL


@feature("T9", "T33")
def test_a_running_job_can_neither_be_deleted_nor_paused() -> None:
    for event in (Event.DELETE, Event.PAUSE, Event.CANCEL, Event.EDIT_DUE, Event.EDIT_LATER, Event.RETRY):
        assert not allowed(State.RUNNING, event)


@feature("T18")
def test_the_ends_that_spend_the_failure_budget_are_these_four() -> None:
    assert {End.FAILED, End.TIMED_OUT, End.LOST, End.CRASHED} == FAILURES
