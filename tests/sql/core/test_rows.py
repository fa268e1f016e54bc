"""A job as a row, and the figures of the roll-up."""

import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.job.figures import bucket, unpack
from holdfast.job.model import Attempt, CancelAsk, Job, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FINAL, End, State
from holdfast.stores.sql.rows import (
    CODES,
    attempt_from,
    attempt_row,
    done_row,
    job_from,
    job_row,
    micros,
    seconds,
)
from holdfast.stores.sql.schema import DONE_COLUMNS, END_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.stats import MINUTE, Ended, RollUp

times = st.integers(0, 10**16).map(lambda stored: stored / 1e6)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
numbers = st.integers(0, 2**53)
optional_bytes = st.none() | st.binary(max_size=8)
attempts = st.builds(
    Attempt,
    number=st.integers(1, 1_000),
    token=numbers,
    instance=texts,
    worker=texts,
    started_at=times,
    end=st.none() | st.sampled_from(End),
    ended_at=st.none() | times,
    duration=st.none() | st.floats(0, 1e6),
    error=texts,
    version=texts,
    progress=st.binary(max_size=4),
    report=numbers,
)
jobs = st.builds(
    Job,
    seq=st.integers(1, 2**50),
    id=texts,
    task=texts,
    queue=texts,
    payload=st.binary(max_size=8),
    priority=st.integers(-100, 100),
    run_at=times,
    retry=st.just(RetryPolicy()) | st.builds(RetryPolicy, max_attempts=st.integers(1, 9), delays=st.tuples(times)),
    timeout=st.none() | times,
    key=st.none() | texts,
    on_wait=st.sampled_from(OnWait),
    unique=st.none() | texts,
    unique_window=st.none() | times,
    tags=st.lists(texts, max_size=2).map(tuple),
    headers=st.binary(max_size=4),
    replay_of=st.none() | texts,
    origin=st.sampled_from(("engine", "external")),
    created_at=times,
    state=st.sampled_from(State),
    queued_at=st.none() | times,
    updated_at=times,
    deleted_at=st.none() | times,
    paused_by=texts,
    cancel=st.none() | st.builds(CancelAsk, who=texts, why=texts, at=times),
    generation=st.integers(0, 9),
    failures=st.integers(0, 9),
    crashes=st.integers(0, 9),
    snoozes=st.integers(0, 9),
    releases=st.integers(0, 9),
    losses=st.integers(0, 9),
    suspect=st.booleans(),
    last=st.none() | attempts,
    data=st.binary(max_size=8),
    result=optional_bytes,
    replayed_by=st.none() | texts,
    finished_at=times,
)


def told(job: Job) -> Job:
    """A job as the engine would have it: its attempt and token are those of its last attempt, an end has its time."""
    final = job.state in FINAL
    last = job.last
    changes = {
        "finished_at": job.finished_at if final else None,
        "deleted_at": job.deleted_at if final else None,
        "attempt": 0 if last is None else last.number,
        "token": 0 if last is None else last.token,
    }
    if job.state is State.SUCCEEDED and last is not None and last.end is None:
        changes["last"] = msgspec.structs.replace(last, end=End.SUCCEEDED)  # type: ignore[assignment]
    return msgspec.structs.replace(job, **changes)


@given(jobs.map(told))
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
def test_a_job_comes_back_from_its_row_as_it_was(job: Job) -> None:
    row = done_row(job) if job.final else job_row(job, 5.0)
    assert len(row) == len(DONE_COLUMNS if job.final else JOB_COLUMNS)
    assert job_from(row) == job
    if not job.final:
        assert job_from((*row, *[None] * len(END_COLUMNS))) == job


@given(attempts)
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_an_attempt_comes_back_from_its_row_as_it_was(attempt: Attempt) -> None:
    assert attempt_from(attempt_row(7, attempt)[2]) == attempt


@given(st.integers(0, 10**18))
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
def test_a_time_comes_back_to_the_microsecond_where_a_float_has_it(stored: int) -> None:
    if stored <= 2**53:
        assert micros(seconds(stored)) == stored


def test_the_codes_of_states_are_what_the_statements_say() -> None:
    assert [CODES[state] for state in (State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING)] == [1, 2, 3, 4]
    assert all((code >= 6) == (state in FINAL) for state, code in CODES.items())


# --- the roll-up ---------------------------------------------------------------------------------------------------


def ended(waited: int = 1_000, ran: int = 2_000, task: str = "t") -> Ended:
    return Ended("q", task, 1, "i1", "w", waited, ran)


def test_figures_of_a_minute_add_up_over_batches() -> None:
    rollup = RollUp()
    rollup.rows(5 * MINUTE, [ended(), ended(waited=8_000)])
    [row] = rollup.rows(5 * MINUTE + 1, [ended()])
    assert row[:4] == (5, "q", "t", 1)
    assert row[6:9] == (3, 10_000, 6_000)
    assert unpack(row[9]) == {bucket(1_000): 2, bucket(8_000): 1}
    assert unpack(row[10]) == {bucket(2_000): 3}


def test_attempts_that_are_alike_count_as_each_alone() -> None:
    each, together = RollUp(), RollUp()
    alone = [ended()._replace(timed=1, took=took) for took in (5, 7, 7)]
    [one] = each.rows(0, [*alone, ended(waited=9)])
    [other] = together.rows(0, [ended()._replace(timed=3, took=19, n=3), ended(waited=9)])
    assert (*one[:4], *one[5:]) == (*other[:4], *other[5:])  # but for the part of the row that is its store's own
    [back] = together.take_back(0, [ended()._replace(timed=2, took=14, n=2)])
    assert back[6:9] == (2, 1_009, 4_000)
    assert back[11:] == (1, 5.0)


def test_a_new_minute_and_another_task_have_rows_of_their_own() -> None:
    rollup = RollUp()
    assert len(rollup.rows(0, [ended(), ended(task="u")])) == 2
    [row] = rollup.rows(MINUTE, [ended()])
    assert (row[0], row[6]) == (1, 1)


def test_what_was_not_stored_is_taken_back() -> None:
    rollup = RollUp()
    rollup.rows(0, [ended()])
    lost = [ended(waited=9), ended(waited=9)]
    rollup.rows(0, lost)
    rollup.take_back(0, lost)
    [row] = rollup.rows(0, [ended()])
    assert row[6:9] == (2, 2_000, 4_000)
    assert unpack(row[9]) == {bucket(1_000): 2}


def test_two_store_objects_never_write_one_row() -> None:
    [one], [two] = RollUp().rows(0, [ended()]), RollUp().rows(0, [ended()])
    assert one[:4] == two[:4]
    assert one[4] != two[4]


def test_figures_may_be_added_from_several_threads() -> None:
    rollup = RollUp()
    threads = [threading.Thread(target=lambda: [rollup.rows(0, [ended()]) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [row] = rollup.rows(0, [ended()])
    assert row[6] == 801


@pytest.mark.parametrize("microseconds", [1, 10, 1_000, 60_000_000, 10**12])
def test_a_bucket_is_a_fourth_root_of_two_wide(microseconds: int) -> None:
    low = 2 ** (bucket(microseconds) / 4)
    assert low <= microseconds * 1.000001 < low * 2**0.25 * 1.000002
