"""Corners of the ledger that a store's port does not show: bad facts, openings, budgets, what is kept."""

import json

import pytest
from msgspec.structs import replace

from holdfast.errors import Conflict, IllegalTransition
from holdfast.job import commands as c
from holdfast.job import draw
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, canonical, execute, fold, validate
from holdfast.job.ledger.clean import clean, encodable
from holdfast.job.ledger.folding import trailed
from holdfast.job.ledger.query import page_of
from holdfast.job.ledger.settling import DATA_MAX
from holdfast.job.model import (
    ATTEMPTS_KEPT,
    CRASHES_MAX,
    RELEASES_MAX,
    SNOOZES_MAX,
    TRAIL_KEPT,
    TRAIL_MAX,
    Instance,
    InstanceState,
    Job,
    OnConflict,
    Schedule,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, Event, State
from tests.features import feature
from tests.job.bench import Bench
from tests.job.histories import ERROR, Draw


@pytest.fixture
def bench() -> Bench:
    return Bench()


@feature("B44")
def test_a_fact_about_a_job_that_is_not_there_is_refused(bench: Bench) -> None:
    before = canonical(bench.ledger)
    for fact in (f.Purged(9), f.Readied(9, Event.DUE, 1.0), f.Succeeded(9, 1, 1.0), f.Paused(9, "x", 1.0)):
        with pytest.raises(ValueError, match="not there"):
            bench.ledger.apply(fact)
    with pytest.raises(ValueError, match="not there"):
        bench.ledger.apply(f.Claimed(9, 1, 1, "i", "w", "", 2.0, 1.0))
    assert canonical(bench.ledger) == before


@feature("B44")
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


def test_a_bound_job_and_a_linked_key_are_remembered() -> None:
    ledger = Ledger()
    ledger.apply(f.Added(Job(seq=1, id="x", task="t", key="k", sticky="pods")))
    assert ledger.index.line("default").ready.live == {}
    ledger.apply(f.InstanceSaved(Instance(id="i1", worker="w", state=InstanceState.READY)))
    ledger.apply(f.KeyLinked("k", 3, "i1", 7, "pods"))
    ledger.apply(f.Bound(1, 3, 7, 2.0))
    assert (ledger.table[1].pod, ledger.table[1].pod_epoch, ledger.links["pods", "k"].epoch) == (3, 7, 7)
    assert validate(ledger) == []
    assert ledger.index.line("default").sticky.where == {1: ("i1", False)}
    ledger.apply(f.KeyLinked("k", None, "i1", 8, "pods"))
    assert ledger.index.line("default").sticky.where == {1: None}


@feature("T19")
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


@feature("B19")
def test_a_line_that_was_left_by_thousands_stays_in_order_and_small(bench: Bench) -> None:
    ids = [f"x{n}" for n in range(4_000)]
    bench.add(*ids)
    line = bench.ledger.index.line("default")
    for start in range(3_999, 1, -2):
        execute(bench.ledger, c.Order(action=c.Pause(), selection=c.Selection(ids=(ids[start],))), bench.now, Draw(1))
    assert validate(bench.ledger) == []
    assert len(line.ready) == 2_001
    for start in range(2, 3_900, 2):
        execute(bench.ledger, c.Order(action=c.Pause(), selection=c.Selection(ids=(ids[start],))), bench.now, Draw(1))
    assert [claim.id for claim in bench.claim(100)] == [ids[0], ids[1], *ids[3_900:3_999:2]]


@feature("B3", "B12")
def test_the_next_token_is_above_the_last_and_above_all_earlier_openings(bench: Bench) -> None:
    bench.add("x")
    assert bench.ledger.next_token(bench.job("x")) == bench.ledger.epoch << 32
    [claim] = bench.claim()
    assert bench.ledger.next_token(bench.job("x")) == claim.token + 1


@feature("A2", "A9")
@pytest.mark.parametrize(
    ("ending", "most", "word"),
    [(c.Snoozed(0.0), SNOOZES_MAX, "snoozed more than"), (c.Released("stop"), RELEASES_MAX, "released more than")],
    ids=["snoozes", "releases"],
)
def test_a_spent_limit_says_so(bench: Bench, ending: c.Ending, most: int, word: str) -> None:
    bench.add("x")
    for _ in range(most):
        [claim] = bench_claim(bench)
        execute(bench.ledger, c.SettleAll((c.Settlement(claim, ending),)), bench.now, Draw(1))
    assert bench.settle(bench.claim()[0], ending).state is State.FAILED
    last = bench.job("x").last
    assert last is not None
    assert word in last.reason


def bench_claim(bench: Bench) -> list[c.Claim[Job]]:
    """Claim without looking at everything each time."""
    want = c.Want(queues=(c.QueueWant("default", 1),), limit=1, instance="i1", worker="w")
    return list(execute(bench.ledger, want, bench.now, Draw(1))[1].items)


@feature("G8")
def test_data_over_its_limit_is_left_out_and_the_attempt_says_so(bench: Bench) -> None:
    bench.add("x")
    big = b'{"big":"' + b"x" * DATA_MAX + b'"}'
    bench.settle(bench.claim()[0], c.Failed(ERROR, retryable=False, update=big))
    job = bench.job("x")
    assert job.last is not None
    assert (job.data, "left out" in job.last.reason) == (b"", True)


@feature("A6")
def test_a_late_report_marks_its_own_attempt_alone(bench: Bench) -> None:
    bench.add("x", retry=RetryPolicy(9, 0.0))
    stale = []
    for _ in range(3):
        stale += bench.claim()
        bench.now += 100.0
        bench.do(c.Rescue())
    bench.claim()
    for claim in (stale[1], stale[1], replace(stale[1], token=1)):
        assert bench.settle(claim, c.Succeeded(b"1")).accepted is c.Accepted.STALE
    assert [attempt.end for attempt in bench.job("x").attempts] == [End.LOST, End.STALE, End.LOST, None]
    assert bench.ledger.stale_refused == 3


@feature("B33")
def test_retention_waits_for_an_open_window_and_not_for_ever(bench: Bench) -> None:
    bench.add("x", "y", unique_window=500.0)
    bench.add("z", unique="u", unique_window=500.0)
    bench.do(c.ChangeQueue(name="default", keep_succeeded=1.0))
    for claim in bench.claim(3):
        bench.settle(claim, c.Succeeded(b"1"))
    bench.now += 10.0
    assert bench.do(c.Rescue()).pruned == 2
    assert [job.id for job in bench.ledger.table.values()] == ["z"]
    bench.now += 500.0
    assert bench.do(c.Rescue()).pruned == 1


@pytest.mark.parametrize(
    ("text", "cleaned"), [("plain", "plain"), ("é", "é"), ("a\ud800b", "a\\ud800b"), ("\udfff", "\\udfff"), ("", "")]
)
def test_texts_from_outside_become_storable_and_show_what_was_changed(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert encodable(clean(text))


def test_chance_comes_from_outside() -> None:
    assert set(vars(draw.Draw)) >= {"unit", "job_id"}


@feature("T4", "T22")
def test_a_job_behind_a_head_whose_task_is_stopped_is_handed_out_at_once(bench: Bench) -> None:
    bench.do(c.DefineAll((c.Define(alias="stopped"), c.Define(alias="t"))))
    bench.add("head", task="stopped", queue="a", key="k")
    want_a = c.Want(queues=(c.QueueWant("a", 1),), limit=1, instance="i1", worker="w")
    [claim] = bench.do(want_a).items
    bench.do(c.ChangeDefinition(alias="stopped", status="canceled"))
    bench.settle(claim, c.Failed(ERROR, retry_in=5.0))
    bench.add("behind", queue="b", key="k")
    bench.now += 10.0
    want = c.Want(queues=(c.QueueWant("b", 1), c.QueueWant("a", 1)), limit=2, instance="i1", worker="w")
    assert [claim.id for claim in bench.do(want).items] == ["behind"]


@feature("A14")
def test_a_replay_into_a_new_queue_makes_the_queue(bench: Bench) -> None:
    bench.add("x")
    [claim] = bench.claim()
    bench.settle(claim, c.Succeeded())
    order = c.Order(action=c.Replay(queue="elsewhere"), selection=c.Selection(ids=("x",)))
    [ruling] = bench.do(order).rulings
    assert bench.job(ruling.made).queue == "elsewhere"
    assert any(type(fact) is f.QueueSaved and fact.queue.name == "elsewhere" for fact in bench.log)


@feature("T31")
def test_a_schedule_is_replaced_only_by_who_saw_its_last_revision(bench: Bench) -> None:
    schedule = Schedule(name="nightly", rule="0 3 * * *", task="t")
    made = bench.do(c.SaveSchedule(schedule, 0))
    assert made.revision == 1
    for expect, found in ((0, "expected none, found revision 1"), (7, "expected revision 7, found revision 1")):
        with pytest.raises(Conflict, match=found):
            bench.do(c.SaveSchedule(schedule, expect))
    with pytest.raises(Conflict, match="expected revision 1, found none"):
        bench.do(c.SaveSchedule(replace(schedule, name="weekly"), 1))
    assert bench.do(c.SaveSchedule(schedule, 1)).revision == 2


def test_a_search_passes_over_the_places_of_purged_jobs(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.add(name)
    bench.do(c.Order(action=c.Delete(hard=True), selection=c.Selection(ids=("b",))))
    page = page_of(bench.ledger, c.JobFilter(), c.Page(newest_first=False))
    assert [job.id for job in page.items] == ["a", "c"]


@feature("H6")
def test_the_trail_of_an_attempt_keeps_the_newest_reports_within_its_bounds() -> None:
    trail = b""
    for number in range(TRAIL_KEPT + 20):
        trail = trailed(trail, float(number), b"%d" % number)
    assert json.loads(trail) == [[float(number), number] for number in range(20, TRAIL_KEPT + 20)]
    wide = b'"%s"' % (b"x" * (TRAIL_MAX // 4))
    for number in range(6):
        trail = trailed(trail, float(number), wide)
    assert len(trail) <= TRAIL_MAX
    assert [at for at, _ in json.loads(trail)] == [3.0, 4.0, 5.0]


@pytest.mark.parametrize("value", [b'"%s"' % (b"x" * TRAIL_MAX), b"{not json", b"1,2", b"\xff", b"[" * 3_000])
def test_what_can_not_stand_in_a_trail_is_left_out_of_it(value: bytes) -> None:
    assert trailed(b"[[1.0,5]]", 2.0, value) == b"[[1.0,5]]"


def test_a_process_without_a_worker_s_name_configures_nobody(bench: Bench) -> None:
    signals = bench.do(c.Beat(instance=Instance(id="i1", worker="")))
    assert (signals.config, bench.ledger.workers) == (None, {})


def test_a_settle_that_comes_twice_in_one_batch_is_applied_once() -> None:
    bench = Bench()
    bench.add("a", "b")
    one, two = bench.claim(2)
    done = c.Succeeded(b"1")
    answers = bench.do(c.SettleAll((c.Settlement(one, done), c.Settlement(one, done), c.Settlement(two, done))))
    assert [answer.accepted for answer in answers] == [c.Accepted.APPLIED, c.Accepted.REPEATED, c.Accepted.APPLIED]
    assert [bench.job(job_id).state for job_id in "ab"] == [State.SUCCEEDED] * 2


def test_an_empty_batch_stores_nothing(bench: Bench) -> None:
    assert bench.do(c.Enqueue(jobs=())) == []


def test_a_queue_is_made_though_its_only_job_is_there_already(bench: Bench) -> None:
    bench.add("a", unique="u")
    bench.add("b", unique="u", queue="other", on_conflict=OnConflict.KEEP)
    assert set(bench.ledger.index.lines) == {"default", "other"}


def test_purges_that_nobody_exports_are_not_remembered(bench: Bench) -> None:
    bench.ledger.apply(f.Forgotten((7,)))
    assert bench.ledger.gone == set()
    bench.do(c.Export(on=True))
    bench.ledger.apply(f.Forgotten((7,)))
    assert bench.ledger.gone == {7}
