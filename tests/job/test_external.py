"""Records of jobs that ran elsewhere: merged by pure rules, kept apart from all that can be claimed."""

from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.chance import SystemDraw
from holdfast.clock import ManualClock
from holdfast.errors import Conflict, UnknownJob
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, execute
from holdfast.job.ledger.query import count_of, stats_of
from holdfast.job.ledger.validate import canonical, validate
from holdfast.job.model import Attempt, Job, NewJob, WorkerConfig
from holdfast.job.state import End, State
from tests.features import feature


class Bench:
    """A ledger, its log, and short words for reports."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_000.0)
        self.ledger = Ledger()
        self.draw = SystemDraw(self.clock, seed=1)
        self.log: list[f.Fact] = []

    def do(self, command: object) -> Any:
        facts, answer = execute(self.ledger, command, self.clock.now(), self.draw)
        self.log += facts
        assert validate(self.ledger) == []
        return answer

    def upsert(self, job_id: str = "x", **fields: Any) -> Job:
        self.do(c.RecordJobs((Job(**{"seq": 0, "id": job_id, "task": "t", **fields}),)))
        return self.job(job_id)

    def status(self, state: State, attempt: int = 0, **fields: Any) -> bool:
        [known] = self.do(c.RecordStatuses((c.StatusUpdate(id="x", state=state, attempt=attempt, **fields),)))
        return bool(known)

    def report(self, number: int, end: End | None = None, **fields: Any) -> Job:
        self.do(c.RecordAttempts((c.AttemptRecord("x", attempt(number, end, **fields)),)))
        return self.job()

    def job(self, job_id: str = "x") -> Job:
        job = self.ledger.job(job_id)
        assert job is not None
        return job


def attempt(number: int, end: End | None = None, *, started_at: float = 900.0, **fields: Any) -> Attempt:
    return Attempt(number, 0, "", fields.pop("worker", "w"), started_at, end, **fields)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ends(job: Job) -> Sequence[End | None]:
    return [one.end for one in job.attempts]


# --- kept apart ----------------------------------------------------------------------------------------------------


def test_a_record_is_never_claimed_promoted_or_rescued_whatever_its_state(bench: Bench) -> None:
    for state in State:
        bench.upsert(state.value, state=state, key="k", unique="u")
    bench.clock.advance(10_000.0)
    want = c.Want(queues=(c.QueueWant("default", 100),), limit=100, instance="i")
    assert bench.do(want).items == ()
    assert bench.do(c.Rescue()) == c.Rescued()
    assert [bench.job(state.value).state for state in State] == list(State)


def test_a_running_record_takes_no_slot_of_a_serial_queue(bench: Bench) -> None:
    bench.do(c.ChangeQueue(name="default", create=True, mode="serial"))
    bench.upsert(state=State.RUNNING)
    bench.do(c.Enqueue(jobs=(NewJob(id="ours", task="t"),)))
    want = c.Want(queues=(c.QueueWant("default", 1),), limit=1, instance="i")
    assert [claim.id for claim in bench.do(want).items] == ["ours"]


def test_a_forged_claim_can_not_settle_a_record(bench: Bench) -> None:
    record = bench.upsert(state=State.RUNNING, last=attempt(1))
    claim = c.Claim(record, "x", "t", "default", record.token, 1, 0.0, record.seq)
    [answer] = bench.do(c.SettleAll((c.Settlement(claim, c.Succeeded(b"1")),)))
    [told] = bench.do(c.ProgressAll((c.Progress(claim, b"1"),)))
    assert (answer.accepted, told.accepted) == (c.Accepted.STALE, c.Accepted.STALE)
    assert bench.job().state is State.RUNNING


def test_records_are_counted_with_the_jobs_and_stay_out_of_the_engines_own_figures(bench: Bench) -> None:
    bench.upsert("a", state=State.RUNNING)
    bench.upsert("b", state=State.RUNNING)
    bench.do(c.Enqueue(jobs=(NewJob(id="ours", task="t"),)))
    assert count_of(bench.ledger, c.JobFilter(states=(State.RUNNING,))) == 2
    assert count_of(bench.ledger, c.JobFilter(task="t")) == 3
    assert stats_of(bench.ledger).total(State.RUNNING) == 0


def test_a_queue_with_an_unfinished_record_is_not_forgotten(bench: Bench) -> None:
    bench.upsert(state=State.RUNNING)
    with pytest.raises(Conflict, match="1 unfinished"):
        bench.do(c.DeleteQueue(name="default"))
    bench.status(State.FAILED)
    bench.do(c.DeleteQueue(name="default"))
    assert bench.ledger.job("x") is None


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    "action", [c.Cancel(), c.Pause(), c.Resume(), c.Retry(), c.Replay(), c.RunNow(), c.Edit(priority=1), c.Delete()]
)
def test_a_record_can_be_replayed_and_deleted_once_it_has_ended_and_no_more(
    bench: Bench, state: State, action: c.Action
) -> None:
    bench.upsert(state=state)
    [ruling] = bench.do(c.Order(action=action, selection=c.Selection(ids=("x",)))).rulings
    assert ruling.done == (
        state in (State.SUCCEEDED, State.FAILED, State.CANCELED) and type(action) in (c.Replay, c.Delete)
    )
    assert ruling.done or "runs elsewhere" in ruling.why


def test_a_replayed_record_becomes_a_job_of_the_engine(bench: Bench) -> None:
    bench.upsert(state=State.FAILED, payload=b"[1]")
    [ruling] = bench.do(c.Order(action=c.Replay(), selection=c.Selection(ids=("x",)))).rulings
    made = bench.job(ruling.made)
    assert (made.origin, made.state, made.payload, made.replay_of) == ("engine", State.QUEUED, b"[1]", "x")
    assert bench.upsert(state=State.FAILED).replayed_by == made.id


def test_a_deleted_record_stays_hidden_when_it_is_reported_again(bench: Bench) -> None:
    bench.upsert(state=State.FAILED)
    bench.do(c.Order(action=c.Delete(), selection=c.Selection(ids=("x",))))
    assert bench.upsert(state=State.RUNNING).deleted_at == 1_000.0
    assert count_of(bench.ledger, c.JobFilter()) == 0


def test_retention_purges_ended_records_of_a_queue_by_their_latest_end(bench: Bench) -> None:
    bench.upsert("a", state=State.SUCCEEDED)
    bench.upsert("b", state=State.FAILED)
    bench.upsert("c", state=State.SUCCEEDED)
    bench.clock.advance(86_000.0)
    bench.upsert("c", state=State.SUCCEEDED, finished_at=bench.clock.now())
    bench.clock.advance(400.0)
    assert bench.do(c.Rescue()).pruned == 1
    assert bench.ledger.job("a") is None
    assert bench.job("b").state is State.FAILED
    assert bench.job("c").state is State.SUCCEEDED


def test_a_replay_of_the_facts_ends_in_the_same_state(bench: Bench) -> None:
    bench.upsert()
    bench.report(1)
    bench.do(c.Enqueue(jobs=(NewJob(id="ours", task="t"),)))
    bench.report(1, End.FAILED, error="no", ended_at=901.0)
    bench.status(State.FAILED, 1)
    bench.upsert("y", queue="other")
    again = Ledger()
    again.replay(f.decode_facts(f.encode_facts(bench.log)))
    assert canonical(again) == canonical(bench.ledger)
    assert validate(again) == []


def test_a_log_that_records_over_a_job_of_the_engine_is_damaged(bench: Bench) -> None:
    bench.do(c.Enqueue(jobs=(NewJob(id="ours", task="t"),)))
    with pytest.raises(ValueError, match="engine's own"):
        bench.ledger.apply(f.Recorded(bench.job("ours")))


# --- upsert --------------------------------------------------------------------------------------------------------


@feature("H1")
def test_an_upsert_overwrites_all_but_the_task_and_the_time_of_making(bench: Bench) -> None:
    first = bench.upsert(task="mail", queue="a", payload=b"1", created_at=5.0, last=attempt(1, worker="w1", error="e1"))
    assert (first.created_at, first.origin, first.seq) == (1_000.0, "external", 1)
    bench.clock.advance(5.0)
    last = attempt(2, worker="w2", error="e2", trace_id="t2")
    second = bench.upsert(task="other", queue="b", priority=3, payload=b"2", state=State.RETRYING, last=last)
    assert (second.task, second.created_at, second.seq) == ("mail", 1_000.0, 1)
    assert (second.queue, second.priority, second.payload, second.state) == ("b", 3, b"2", State.RETRYING)
    assert (second.attempt, second.last, second.updated_at) == (2, last, 1_005.0)
    assert [one.worker for one in second.attempts] == ["w1", "w2"]


def test_an_end_is_dated_by_the_report_or_else_once_by_the_clock(bench: Bench) -> None:
    assert bench.upsert(state=State.SUCCEEDED, finished_at=7.0).finished_at == 7.0
    assert bench.upsert(state=State.FAILED).finished_at == 1_000.0
    bench.clock.advance(5.0)
    assert bench.upsert(state=State.FAILED).finished_at == 1_000.0
    assert bench.upsert(state=State.RUNNING, finished_at=7.0).finished_at is None


@feature("H1", "H2", "H6")
def test_a_job_of_the_engine_is_refused_and_nothing_of_the_batch_is_stored(bench: Bench) -> None:
    bench.do(c.Enqueue(jobs=(NewJob(id="x", task="t"),)))
    other = Job(seq=0, id="other", task="t")
    before = canonical(bench.ledger)
    for command in (
        c.RecordJobs((other, Job(seq=0, id="x", task="t"))),
        c.RecordStatuses((c.StatusUpdate(id="x", state=State.FAILED),)),
        c.RecordAttempts((c.AttemptRecord("x", attempt(1)),)),
    ):
        with pytest.raises(Conflict, match="belongs to the engine"):
            bench.do(command)
    assert canonical(bench.ledger) == before


# --- status --------------------------------------------------------------------------------------------------------


@feature("H2")
def test_a_status_update_closes_the_attempt_that_it_names(bench: Bench) -> None:
    bench.upsert()
    bench.report(1)
    bench.clock.advance(2.0)
    assert bench.status(State.FAILED, 1, error="broke", worker="other")
    job = bench.job()
    assert (job.state, job.finished_at, job.failures, job.error) == (State.FAILED, 1_002.0, 1, "broke")
    assert job.last is not None
    assert (job.last.end, job.last.ended_at, job.last.worker) == (End.FAILED, 1_002.0, "w")


def test_a_status_update_opens_an_attempt_that_nobody_reported(bench: Bench) -> None:
    bench.upsert()
    assert bench.status(State.RUNNING, 2, worker="w2")
    assert bench.job().last == Attempt(2, 0, "", "w2", 1_000.0)


def test_a_status_update_without_an_attempt_changes_the_state_alone(bench: Bench) -> None:
    bench.upsert(last=attempt(1))
    assert bench.status(State.CANCELED)
    assert (bench.job().state, ends(bench.job())) == (State.CANCELED, [None])
    bench.clock.advance(9.0)
    assert bench.status(State.CANCELED)
    assert bench.job().finished_at == 1_000.0


def test_a_status_update_of_an_unknown_record_says_so_and_makes_nothing(bench: Bench) -> None:
    assert not bench.status(State.FAILED)
    assert bench.log == []


# --- attempts ------------------------------------------------------------------------------------------------------


@feature("HW4")
def test_one_attempt_is_one_row_and_the_state_follows_it(bench: Bench) -> None:
    bench.upsert(state=State.QUEUED)
    assert bench.report(1).state is State.RUNNING
    assert bench.report(1, End.FAILED, ended_at=901.0).state is State.RETRYING
    assert bench.report(2).state is State.RUNNING
    job = bench.report(2, End.SUCCEEDED, ended_at=905.0)
    assert (job.state, job.attempt, ends(job)) == (State.SUCCEEDED, 2, [End.FAILED, End.SUCCEEDED])


@feature("HW2")
@pytest.mark.parametrize("end", [End.SUCCEEDED, End.FAILED, End.CANCELED, End.RELEASED, End.SNOOZED])
def test_reports_may_come_twice_and_out_of_order(bench: Bench, end: End) -> None:
    bench.upsert()
    job = bench.report(1, end, ended_at=901.0)
    facts = len(bench.log)
    assert bench.report(1, end, ended_at=901.0) == job
    assert bench.report(1) == job
    assert len(bench.log) == facts


def test_an_attempt_that_has_ended_is_never_rewritten(bench: Bench) -> None:
    bench.upsert()
    bench.report(1, End.FAILED, ended_at=901.0)
    with pytest.raises(Conflict, match="never rewritten"):
        bench.report(1, End.SUCCEEDED, ended_at=901.0)


def test_the_report_of_an_end_completes_what_a_status_update_closed(bench: Bench) -> None:
    bench.upsert()
    bench.status(State.FAILED, 1, error="first word")
    job = bench.report(1, End.TIMED_OUT, ended_at=930.0, error="too slow")
    assert job.last is not None
    assert (job.state, job.last.end, job.last.duration, job.error) == (State.FAILED, End.TIMED_OUT, 30.0, "too slow")


def test_a_late_report_of_an_older_attempt_leaves_the_state(bench: Bench) -> None:
    bench.upsert()
    bench.report(2, End.SUCCEEDED, ended_at=905.0)
    job = bench.report(1, End.FAILED, ended_at=901.0)
    assert (job.state, ends(job)) == (State.SUCCEEDED, [End.FAILED, End.SUCCEEDED])


def test_a_newer_attempt_takes_a_record_out_of_its_end(bench: Bench) -> None:
    bench.upsert(state=State.FAILED, attempt=1)
    job = bench.report(2)
    assert (job.state, job.finished_at) == (State.RUNNING, None)


def test_a_stale_attempt_leaves_the_state(bench: Bench) -> None:
    bench.upsert(state=State.RUNNING)
    assert bench.report(1, End.STALE).state is State.RUNNING


@feature("HW3")
@pytest.mark.parametrize(
    ("ended_at", "measured", "kept"), [(930.0, None, 30.0), (930.0, 29.5, 29.5), (None, None, 0.0), (890.0, None, 0.0)]
)
def test_a_duration_follows_from_the_times_unless_it_was_measured(
    bench: Bench, ended_at: float | None, measured: float | None, kept: float
) -> None:
    bench.upsert()
    job = bench.report(1, End.SUCCEEDED, ended_at=ended_at, duration=measured)
    assert job.last is not None
    assert job.last.duration == kept


def test_an_attempt_of_an_unknown_job_is_refused_with_the_whole_batch(bench: Bench) -> None:
    bench.upsert()
    with pytest.raises(UnknownJob):
        bench.do(c.RecordAttempts((c.AttemptRecord("x", attempt(1)), c.AttemptRecord("nobody", attempt(1)))))
    assert bench.job().attempts == ()


def test_two_reports_of_one_job_in_one_batch_both_count(bench: Bench) -> None:
    bench.upsert()
    bench.do(c.RecordAttempts((c.AttemptRecord("x", attempt(1)), c.AttemptRecord("x", attempt(2)))))
    assert [one.number for one in bench.job().attempts] == [1, 2]
    assert c.AttemptRecord("x", attempt(2)).id == "x:2"


# --- workers -------------------------------------------------------------------------------------------------------


@feature("H14")
def test_a_beat_of_a_worker_sets_the_time_and_is_silent_about_unknown_ones(bench: Bench) -> None:
    bench.do(c.ConfigureWorker(WorkerConfig(name="w")))
    assert bench.do(c.WorkerBeat("w", 990.0))
    assert bench.ledger.workers["w"].last_heartbeat_at == 990.0
    facts = len(bench.log)
    assert bench.do(c.WorkerBeat("w", 990.0))
    assert not bench.do(c.WorkerBeat("nobody", 990.0))
    assert len(bench.log) == facts


@feature("HW8")
def test_editing_a_worker_does_not_silence_it(bench: Bench) -> None:
    bench.do(c.ConfigureWorker(WorkerConfig(name="w", last_heartbeat_at=990.0)))
    edited = bench.do(c.ConfigureWorker(WorkerConfig(name="w", delay=5.0)))
    assert (edited.enabled, edited.last_heartbeat_at, edited.delay) == (True, 990.0, 5.0)
