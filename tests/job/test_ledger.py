"""Corners of the ledger that a store's port does not show: bad facts, bad commands, openings, what is refused in words."""

from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.errors import ConfigError, ContentError, IllegalTransition
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, canonical, execute, fold, validate
from holdfast.job.model import (
    ATTEMPTS_KEPT,
    CRASHES_MAX,
    Instance,
    InstanceState,
    Job,
    NewJob,
    Schedule,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, Event, State
from tests.features import feature
from tests.job.histories import ERROR, Draw, Life


class Bench:
    """A ledger and a clock that moves by hand."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 1_000.0
        self.log: list[f.Fact] = []
        self.do(c.Open(alone=True))

    def do(self, command: object) -> Any:
        facts, answer = execute(self.ledger, command, self.now, Draw(1))
        self.log += facts
        assert validate(self.ledger) == []
        return answer

    def add(self, *ids: str, **fields: Any) -> None:
        self.do(c.Enqueue(jobs=tuple(NewJob(**{"id": job_id, "task": "t", **fields}) for job_id in ids)))

    def claim(self, limit: int = 1, instance: str = "i1") -> list[c.Claim[Job]]:
        want = c.Want(queues=(c.QueueWant("default", limit),), limit=limit, instance=instance, worker="w")
        return list(self.do(want).items)

    def settle(self, claim: c.Claim[Job], ending: c.Ending) -> c.Settled:
        [settled] = self.do(c.SettleAll((c.Settlement(claim, ending),)))
        assert isinstance(settled, c.Settled)
        return settled

    def job(self, job_id: str) -> Job:
        job = self.ledger.job(job_id)
        assert job is not None
        return job


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- facts that can not be


@feature("B24", "B44")
def test_a_fact_about_a_job_that_is_not_there_is_refused(bench: Bench) -> None:
    before = canonical(bench.ledger)
    for fact in (f.Purged(9), f.Readied(9, Event.DUE, 1.0), f.Succeeded(9, 1, 1.0), f.Paused(9, "x", 1.0)):
        with pytest.raises(ValueError, match="not there"):
            bench.ledger.apply(fact)
    with pytest.raises(ValueError, match="not there"):
        bench.ledger.apply(f.Claimed(9, 1, 1, "i", "w", "", 2.0, 1.0))
    assert canonical(bench.ledger) == before


@feature("B24", "B44")
def test_a_fact_that_the_table_forbids_is_refused(bench: Bench) -> None:
    bench.add("x")
    seq = bench.job("x").seq
    for fact in (
        f.Succeeded(seq, 1, 1.0),
        f.Resumed(seq, Event.RESUME_QUEUED, 1.0),
        f.Retried(seq, "", 1.0),
        f.Purged(seq),
    ):
        with pytest.raises((IllegalTransition, ValueError)):
            bench.ledger.apply(fact)
    assert validate(bench.ledger) == []


@feature("B24")
def test_a_job_is_added_once_and_in_order() -> None:
    job = Job(seq=1, id="x", task="t")
    with pytest.raises(ValueError, match="twice"):
        fold(job, f.Added(job))
    with pytest.raises(ValueError, match="has no attempt"):
        fold(replace(job, state=State.RUNNING), f.Ended(1, 1, Event.RELEASE, End.RELEASED, 1.0))
    ledger = Ledger()
    ledger.apply(f.Added(replace(job, seq=5)))
    with pytest.raises(ValueError, match="the next is 6"):
        ledger.apply(f.Added(replace(job, seq=3, id="y")))


@feature("B49", "S5")
def test_a_bound_job_and_a_linked_key_are_remembered() -> None:
    ledger = Ledger()
    ledger.apply(f.Added(Job(seq=1, id="x", task="t", key="k", sticky="pods")))
    assert ledger.index.line("default").ready.live == {}
    ledger.apply(f.Bound(1, 3, 7, 2.0))
    ledger.apply(f.KeyLinked("k", 3, "i1", 7))
    assert (ledger.table[1].pod, ledger.table[1].pod_epoch, ledger.links["k"].epoch) == (3, 7, 7)
    assert validate(ledger) == []
    assert len(ledger.index.line("default").ready.live) == 1
    ledger.apply(f.Bound(1, None, 8, 3.0))
    assert ledger.index.line("default").ready.live == {}


# --- opening


@feature("B39", "T19")
def test_opening_ends_the_claims_of_this_machine_and_gives_remote_ones_a_new_lease(bench: Bench) -> None:
    bench.add("mine", "unknown", "remote")
    for name, local in (("i1", True), ("i3", False)):
        bench.do(c.Beat(instance=Instance(id=name, worker="w", local=local, state=InstanceState.READY)))
    claims = [bench.claim(1, instance)[0] for instance in ("i1", "i2", "i3")]
    bench.now += 500.0
    assert bench.do(c.Open(alone=True, lease=30.0)) == 2
    assert [bench.job(name).state for name in ("mine", "unknown", "remote")] == [
        State.QUEUED,
        State.QUEUED,
        State.RUNNING,
    ]
    assert bench.job("mine").attempts[0].end is End.LOST
    assert bench.ledger.instances["i1"].state is InstanceState.LOST
    assert bench.ledger.instances["i3"].state is InstanceState.READY
    assert bench.settle(claims[2], c.Succeeded(b"1")).accepted is c.Accepted.APPLIED
    assert bench.settle(claims[0], c.Succeeded(b"1")).accepted is c.Accepted.STALE


@feature("T19")
def test_opening_beside_others_ends_no_claim(bench: Bench) -> None:
    bench.add("x")
    [claim] = bench.claim()
    assert bench.do(c.Open(alone=False, lease=30.0)) == 0
    assert bench.ledger.index.leases == {claim.ref: bench.now + 30.0}


@feature("B3", "B12")
def test_each_opening_puts_tokens_above_all_earlier_ones(bench: Bench) -> None:
    bench.add("x")
    tokens = []
    for _ in range(4):
        tokens += [claim.token for claim in bench.claim()]
        bench.do(c.Open(alone=True))
        bench.now += 10_000.0
        bench.do(c.Rescue())
    assert len(tokens) == 4
    assert [token >> 32 for token in tokens] == [1, 2, 3, 4]
    assert max(tokens) < 2**53


# --- what is kept


@feature("B20", "H7")
def test_a_long_life_keeps_its_newest_attempts_and_counts_all(bench: Bench) -> None:
    bench.add("x")
    for _ in range(ATTEMPTS_KEPT + 20):
        bench.settle(bench.claim()[0], c.Snoozed(0.0))
    bench.claim()
    job = bench.job("x")
    assert (job.attempt, len(job.attempts)) == (ATTEMPTS_KEPT + 21, ATTEMPTS_KEPT + 1)
    assert [attempt.number for attempt in job.attempts] == list(range(21, ATTEMPTS_KEPT + 22))


@feature("A5")
def test_a_poison_job_says_so(bench: Bench) -> None:
    bench.add("x", retry=RetryPolicy(100, 0.0))
    for _ in range(CRASHES_MAX):
        bench.settle(bench.claim()[0], c.Crashed(ERROR))
    last = bench.job("x").last
    assert last is not None
    assert "poison" in last.reason
    assert last.error == ERROR.text


@feature("A13")
def test_instances_that_ended_long_ago_are_forgotten(bench: Bench) -> None:
    bench.do(c.Beat(instance=Instance(id="i1", worker="w", state=InstanceState.STOPPED)))
    bench.now += 86_399.0
    bench.do(c.Rescue())
    assert "i1" in bench.ledger.instances
    bench.now += 2.0
    bench.do(c.Rescue())
    assert bench.ledger.instances == {}
    assert bench.ledger.beats == {}


@feature("A17")
def test_what_operators_do_is_in_the_audit_trail(bench: Bench) -> None:
    bench.add("x", delay=60.0)
    bench.do(c.Order(action=c.Cancel(), selection=c.Selection(ids=("x",)), who="ann"))
    bench.do(c.Order(action=c.Retry(), selection=c.Selection(filter=c.JobFilter()), who="bob"))
    bench.do(c.ChangeQueue(name="default", who="ann", paused=True, why="deploy"))
    assert [(entry.who, entry.action) for entry in bench.ledger.audit] == [
        ("ann", "cancel"),
        ("bob", "retry"),
        ("ann", "change_queue"),
    ]
    bench.do(c.ChangeQueue(name="default", who="ann", paused=True))
    assert len(bench.ledger.audit) == 3


# --- bad commands


@feature("T12", "T13")
def test_a_queue_takes_only_sane_values_and_tells_all_faults_at_once(bench: Bench) -> None:
    bench.add("x")
    before = canonical(bench.ledger)
    with pytest.raises(ConfigError) as caught:
        bench.do(c.ChangeQueue(name="default", mode="fast", limit=0, poll_interval=-1.0, keep_failed=-5.0))
    assert len(caught.value.faults) == 4
    assert canonical(bench.ledger) == before
    bench.do(c.ChangeQueue(name="default", keep_failed=0.0, keep_succeeded_count=0))


@feature("T4")
def test_a_status_that_does_not_exist_is_refused(bench: Bench) -> None:
    bench.do(c.DefineAll((c.Define(alias="t"),)))
    with pytest.raises(ConfigError, match="expected active or canceled, found 'sleeping'"):
        bench.do(c.ChangeDefinition(alias="t", status="sleeping"))


@feature("T3")
def test_a_change_that_changes_nothing_is_no_fact(bench: Bench) -> None:
    bench.do(c.DefineAll((c.Define(alias="t"),)))
    count = len(bench.log)
    bench.do(c.ChangeDefinition(alias="t", title="", status="active", new_alias="t", deleted=False))
    bench.do(c.DefineAll((c.Define(alias="t"),)))
    assert len(bench.log) == count
    bench.do(c.ChangeDefinition(alias="t", title="x"))
    assert len(bench.log) == count + 1


@feature("A14")
def test_a_selection_names_ids_or_a_filter_and_not_both(bench: Bench) -> None:
    for selection in (c.Selection(), c.Selection(ids=("x",), filter=c.JobFilter())):
        with pytest.raises(ContentError, match="exactly one"):
            bench.do(c.Order(action=c.Cancel(), selection=selection))


@feature("G19")
def test_a_time_and_a_delay_together_are_refused(bench: Bench) -> None:
    with pytest.raises(ContentError, match="found both"):
        bench.add("x", run_at=5.0, delay=5.0)
    assert bench.ledger.table == {}


@feature("T26")
def test_pages_have_a_sane_length_and_a_cursor_of_ours(bench: Bench) -> None:
    from holdfast.job.ledger.query import page_of

    for limit in (0, -1, 1_001):
        with pytest.raises(ContentError, match="1 to 1,000 rows"):
            page_of(bench.ledger, c.JobFilter(), c.Page(limit=limit))
    for cursor in ("x", "-1", "1.0", "9" * 30, "²"):
        with pytest.raises(ContentError, match="cursor"):
            page_of(bench.ledger, c.JobFilter(), c.Page(cursor=cursor))


@feature("A14", "B48")
def test_a_finished_operation_goes_on_to_nothing(bench: Bench) -> None:
    bench.add("x")
    order = c.Order(action=c.Cancel(), selection=c.Selection(filter=c.JobFilter()))
    operation = bench.do(order).operation
    first = bench.do(c.ContinueOperation(id=operation.id))
    assert bench.do(c.ContinueOperation(id=operation.id)) == first
    assert bench.do(c.CancelOperation(id=operation.id)) == first.operation


@feature("T31")
def test_a_schedule_that_was_fired_by_another_is_left_alone(bench: Bench) -> None:
    bench.do(c.SaveSchedule(Schedule(name="s", rule="* * * * *", task="t", next_run_at=5.0)))
    count = len(bench.log)
    assert bench.do(c.FireSchedule(name="s", due=4.0, jobs=(NewJob(id="x", task="t"),), next_run_at=9.0)) is False
    assert len(bench.log) == count


@feature("G16", "T19")
def test_heartbeats_are_no_facts(bench: Bench) -> None:
    bench.add("x")
    instance = Instance(id="i1", worker="w", state=InstanceState.READY)
    bench.do(c.Beat(instance=instance))
    bench.claim()
    count = len(bench.log)
    for _ in range(10):
        bench.now += 10.0
        bench.do(c.Beat(instance=replace(instance, busy=1, load=0.5), lease=30.0))
    assert len(bench.log) == count
    assert bench.do(c.Rescue()).lost == 0


def test_a_decision_that_is_refused_changes_nothing() -> None:
    life = Life(3).live(100)
    before = canonical(life.ledger)
    jobs = (NewJob(id="new", task="t"), NewJob(id=life.ids[0], task="t", own_id=True))
    assert life.do(c.Enqueue(jobs=jobs)) is None
    assert canonical(life.ledger) == before
