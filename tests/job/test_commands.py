"""What is refused, and in which words; commands and reads at their edges."""

from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.errors import (
    ConfigError,
    Conflict,
    ContentError,
    TooLarge,
    UnknownOperation,
    UnknownQueue,
    UnknownSchedule,
    UnknownTask,
)
from holdfast.job import commands as c
from holdfast.job.ledger import canonical
from holdfast.job.ledger.admin import check_queue, definitions_of, find_definition
from holdfast.job.ledger.query import STEP, count_of, numbers_of, page_of, some_of, stats_of
from holdfast.job.model import (
    FreshJob,
    Instance,
    InstanceState,
    NewJob,
    OperationState,
    Schedule,
    TaskStatus,
)
from holdfast.job.state import State
from tests.features import feature
from tests.job.bench import Bench
from tests.job.histories import Life


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
    bench.do(c.Audit(who="ann", action="token_made", subject="ci", detail="for\ud800 builds" + "x" * 2_000, count=1))
    told = bench.ledger.audit[-1]
    assert (told.who, told.action, told.subject, told.count) == ("ann", "token_made", "ci", 1)
    assert told.detail.startswith("for\\ud800 builds")
    assert len(told.detail) < 1_010


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
@feature("T4")
def test_the_texts_of_a_task_are_plain_and_not_endless(bench: Bench) -> None:
    bench.do(c.DefineAll((c.Define(alias="t", title="t"),)))
    before = canonical(bench.ledger)
    with pytest.raises(ConfigError) as caught:
        bench.do(c.ChangeDefinition(alias="t", title="\x00", description="\ud800", memo="x" * 20_000))
    assert len(caught.value.faults) == 3
    assert canonical(bench.ledger) == before


@feature("H5")
def test_a_worker_is_known_from_its_first_beat_on_unless_it_has_no_name(bench: Bench) -> None:
    bench.do(c.Beat(instance=Instance(id="i1", worker="w", state=InstanceState.READY)))
    bench.do(c.Beat(instance=Instance(id="i2", worker="", state=InstanceState.READY)))
    assert list(bench.ledger.workers) == ["w"]


def test_a_change_that_can_be_done_to_no_queue_is_known_without_looking_at_one() -> None:
    check_queue(c.ChangeQueue(name="mail", limit=3))
    with pytest.raises(ConfigError, match="queue"):
        check_queue(c.ChangeQueue(name="", create=True))
    with pytest.raises(UnknownQueue):
        check_queue(c.ChangeQueue(name="\ud800", paused=True))
    with pytest.raises(ConfigError, match="limit"):
        check_queue(c.ChangeQueue(name="mail", limit=0))


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_replay_that_would_begin_before_now_or_never_is_refused(bench: Bench, delay: float) -> None:
    bench.add("x")
    before = canonical(bench.ledger)
    with pytest.raises(ContentError, match="delay"):
        bench.do(c.Order(action=c.Replay(delay=delay), selection=c.Selection(ids=("x",))))
    assert canonical(bench.ledger) == before


def test_a_time_and_a_delay_together_are_refused(bench: Bench) -> None:
    with pytest.raises(ContentError, match="found both"):
        bench.add("x", run_at=5.0, delay=5.0)
    assert bench.ledger.table == {}


@feature("T26")
def test_pages_have_a_sane_length_and_a_cursor_of_ours(bench: Bench) -> None:
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


def test_what_no_store_could_keep_is_refused_also_behind_the_front_door(bench: Bench) -> None:
    bad: tuple[dict[str, Any], ...] = (
        {"queue": "a\ud800"},
        {"key": "\udfff"},
        {"tags": ("\ud800",)},
        {"priority": 101},
        {"priority": -101},
        {"run_at": float("inf")},
        {"delay": float("nan")},
    )
    for fields in bad:
        with pytest.raises(ContentError):
            bench.add("fine", "x", **fields)
    assert bench.ledger.table == {}
    bench.add("x")
    for edit in (c.Edit(priority=101), c.Edit(priority=-101), c.Edit(run_at=float("nan")), c.Edit(run_at=float("inf"))):
        with pytest.raises(ContentError):
            bench.do(c.Order(action=edit, selection=c.Selection(ids=("x",))))
    assert (bench.job("x").priority, bench.job("x").state) == (0, State.QUEUED)


def test_asking_twice_for_a_cancel_keeps_who_asked_first(bench: Bench) -> None:
    bench.add("x")
    bench.claim()
    for who in ("ann", "bob"):
        ruling = bench.do(c.Order(action=c.Cancel(), selection=c.Selection(ids=("x",)), who=who)).rulings[0]
        assert ruling.done
    ask = bench.job("x").cancel
    assert ask is not None
    assert ask.who == "ann"


@feature("T3", "T26")
def test_definitions_are_found_by_alias_or_id_and_listed_by_what_is_asked(bench: Bench) -> None:
    made = bench.do(c.DefineAll((c.Define(alias="b"), c.Define(alias="a", id="id-a"))))
    assert find_definition(bench.ledger, "id-a") is find_definition(bench.ledger, "a") is made[1]
    with pytest.raises(UnknownTask):
        find_definition(bench.ledger, "nobody")
    with pytest.raises(Conflict):
        bench.do(c.ChangeDefinition(alias="a", new_alias="b"))
    with pytest.raises(Conflict):
        bench.do(c.DefineAll((c.Define(alias="a", only_new=True),)))
    renamed = bench.do(c.ChangeDefinition(alias="a", new_alias="c"))
    assert find_definition(bench.ledger, "id-a") is find_definition(bench.ledger, "c") is renamed
    bench.do(c.ChangeDefinition(alias="c", new_alias="a"))
    bench.do(c.ChangeDefinition(alias="b", deleted=True))
    assert [one.alias for one in definitions_of(bench.ledger, c.DefinitionFilter())] == ["a"]
    assert [one.alias for one in definitions_of(bench.ledger, c.DefinitionFilter(deleted=True))] == ["a", "b"]
    with pytest.raises(Conflict, match="taken by a deleted task"):
        bench.do(c.DefineAll((c.Define(alias="b", only_new=True),)))
    with pytest.raises(Conflict, match="Restore it first"):
        bench.do(c.ChangeDefinition(alias="b", status=TaskStatus.ACTIVE))


def test_a_job_made_just_now_is_told_as_one_that_may_be_known() -> None:
    fresh = FreshJob(id="x", task="t", payload=b"1", priority=3)
    assert type(fresh.told()) is NewJob
    assert fresh.told() == NewJob(id="x", task="t", payload=b"1", priority=3)


@feature("T26")
def test_pages_lead_on_and_text_is_searched(bench: Bench) -> None:
    bench.add("x1", "x2", "x3", payload=b'"sky"')
    for newest_first, ids in ((True, ["x3", "x2", "x1"]), (False, ["x1", "x2", "x3"])):
        first = page_of(bench.ledger, c.JobFilter(), c.Page(limit=2, newest_first=newest_first))
        page = c.Page(limit=2, newest_first=newest_first, cursor=first.cursor)
        second = page_of(bench.ledger, c.JobFilter(), page)
        assert [job.id for job in (*first.items, *second.items)] == ids
        assert second.cursor == ""
    few = page_of(bench.ledger, c.JobFilter(text="x2"), c.Page(limit=1))
    assert ([job.id for job in few.items], few.cursor) == (["x2"], "")
    assert [count_of(bench.ledger, c.JobFilter(text=text)) for text in ("sky", "x2", "sea", "\ud800")] == [3, 1, 0, 0]
    bench.claim(3)
    assert stats_of(bench.ledger).oldest_ready_at == {}


def test_one_id_is_looked_up_and_obeys_the_cursor_and_the_other_fields(bench: Bench) -> None:
    bench.add("a", "b", "c")
    which = c.JobFilter(id="b")
    assert [job.id for job in page_of(bench.ledger, which, c.Page()).items] == ["b"]
    assert count_of(bench.ledger, which) == 1
    assert page_of(bench.ledger, which, c.Page(cursor=str(bench.job("b").seq))).items == ()
    assert page_of(bench.ledger, c.JobFilter(id="b", queue="other"), c.Page()).items == ()
    assert page_of(bench.ledger, c.JobFilter(id="none"), c.Page()).items == ()


def test_a_page_by_the_end_holds_ended_jobs_alone_and_goes_on_behind_the_last(bench: Bench) -> None:
    bench.add("a", "b", "c")
    claims = bench.claim(3)
    for claim in (claims[1], claims[0]):
        bench.settle(claim, c.Succeeded(b"1"))
        bench.now += 1.0
    first = page_of(bench.ledger, c.JobFilter(), c.Page(limit=1, by_end=True))
    assert [job.id for job in first.items] == ["a"]
    assert [job.id for job in page_of(bench.ledger, c.JobFilter(), c.Page(cursor=first.cursor, by_end=True)).items] == [
        "b"
    ]
    up = page_of(bench.ledger, c.JobFilter(), c.Page(limit=1, by_end=True, newest_first=False))
    assert [job.id for job in up.items] == ["b"]
    assert page_of(bench.ledger, c.JobFilter(states=(State.RUNNING,)), c.Page(by_end=True)).items == ()
    for bad in ("x", "1", ":", "1:x"):
        with pytest.raises(ContentError, match="cursor"):
            page_of(bench.ledger, c.JobFilter(), c.Page(cursor=bad, by_end=True))


def test_a_search_looks_at_so_many_jobs_in_one_step_and_at_fewer_when_it_reads_large_payloads(bench: Bench) -> None:
    bench.do(c.Enqueue(jobs=tuple(NewJob(id=f"n{number}", task="t") for number in range(STEP + 1))))
    rare = c.JobFilter(text=f"n{STEP}")
    assert [job.id for job in page_of(bench.ledger, rare, c.Page(newest_first=False)).items] == [f"n{STEP}"]
    assert count_of(bench.ledger, rare) == 1
    numbers = numbers_of(bench.ledger, None, rare)
    assert some_of(bench.ledger, rare, numbers, None) == ([], False)
    last, done = some_of(bench.ledger, rare, numbers, None)
    assert ([job.id for job in last], done) == ([f"n{STEP}"], True)
    for half in "ab":
        bench.add(*(f"large-{half}{number}" for number in range(20)), payload=b"x" * 250_000)
    numbers = iter(range(STEP + 2, bench.ledger.next_seq))
    looked = []
    while not some_of(bench.ledger, c.JobFilter(text="y"), numbers, None)[1]:
        looked.append(1)
    assert len(looked) == 1


@feature("B45")
def test_a_batch_over_its_limits_is_refused(bench: Bench) -> None:
    job = NewJob(id="x", task="t")
    with pytest.raises(TooLarge, match="10,000 jobs"):
        bench.do(c.Enqueue(jobs=(job,) * (c.ENQUEUE_JOBS_MAX + 1)))
    with pytest.raises(TooLarge, match="bytes of payload"):
        bench.do(c.Enqueue(jobs=(replace(job, payload=b"x" * (c.ENQUEUE_BYTES_MAX + 1)),)))
    assert bench.ledger.table == {}


@feature("A14")
def test_a_preview_by_filter_counts_and_an_unknown_operation_is_refused(bench: Bench) -> None:
    bench.add("x", "y")
    order = c.Order(action=c.Cancel(), selection=c.Selection(filter=c.JobFilter()), preview=True)
    assert (bench.do(order).matched, bench.ledger.operations) == (2, {})
    for command in (c.ContinueOperation(id="nobody"), c.CancelOperation(id="nobody")):
        with pytest.raises(UnknownOperation):
            bench.do(command)


@feature("A14")
def test_an_operation_stops_at_a_full_batch_and_goes_on(bench: Bench) -> None:
    bench.add(*(f"x{n}" for n in range(c.OPERATION_BATCH + 1)))
    operation = bench.do(c.Order(action=c.Cancel(), selection=c.Selection(filter=c.JobFilter()))).operation
    first = bench.do(c.ContinueOperation(id=operation.id))
    assert (first.done, first.operation.state) == (c.OPERATION_BATCH, OperationState.RUNNING)
    second = bench.do(c.ContinueOperation(id=operation.id))
    assert (second.done, second.operation.state) == (c.OPERATION_BATCH + 1, OperationState.DONE)


@feature("A14")
def test_an_operation_over_about_so_many_jobs_tells_at_its_end_how_many_they_were(bench: Bench) -> None:
    bench.add("x", "y")
    operation = bench.do(c.Order(action=c.Cancel(), selection=c.Selection(filter=c.JobFilter()))).operation
    bench.ledger.operations[operation.id] = replace(operation, matched=7, estimated=True)
    ended = bench.do(c.ContinueOperation(id=operation.id))
    assert (ended.matched, ended.estimated, ended.done) == (2, False, 2)


@feature("T31")
def test_an_unknown_schedule_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownSchedule):
        bench.do(c.FireSchedule(name="nobody", due=1.0, jobs=(), next_run_at=None))
