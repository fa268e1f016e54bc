"""Figures of attempts: histograms and their percentiles, cells that merge, and the roll-up of a ledger."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.figures import (
    GAVE_UP,
    OUTCOMES,
    Cell,
    Key,
    Packed,
    bucket,
    end_of,
    outcome_of,
    pack,
    quantile,
    sample_of,
    timing,
    unpack,
)
from holdfast.job.ledger import Ledger, rollup
from holdfast.job.ledger.rollup import HOURS, HOURS_KEPT, MINUTES, RollUp
from holdfast.job.ledger.snapshot import records_of, restore
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, Event
from tests.features import feature
from tests.job.bench import Bench
from tests.job.histories import Life

TIMES = st.integers(0, 10**13)  # microseconds


@feature("H8")
@given(values=st.lists(TIMES, min_size=1, max_size=300), share=st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_at_most_a_bucket_away_from_the_truth(values: list[int], share: float) -> None:
    truth = sorted(values)[math.ceil(share * len(values)) - 1]
    found = quantile(Counter(map(bucket, values)), share)
    assert found is not None
    assert max(truth, 1) / 2**0.25 <= found * 1e6 * 1.000_001
    assert found * 1e6 <= max(truth, 1) * 2**0.25 * 1.000_001


@given(st.lists(st.lists(st.tuples(TIMES, TIMES), max_size=20), max_size=6))
def test_cells_merged_in_any_grouping_are_the_cell_of_all(groups: list[list[tuple[int, int]]]) -> None:
    whole, merged, unpacked = Cell(), Cell(), Cell()
    for group in groups:
        cell = Cell()
        cell.add([waited for waited, _ in group], [ran for _, ran in group])
        whole.add([waited for waited, _ in group], [ran for _, ran in group])
        merged.merge(cell)
        cell.packed().add_to(unpacked)
    assert whole.packed() == merged.packed() == unpacked.packed()


def test_what_is_taken_back_was_never_counted() -> None:
    cell = Cell()
    cell.add([5, 7], [1_000, 2_000])
    before = cell.packed()
    cell.add([9], [1])
    cell.add([9], [1], -1)
    assert cell.packed() == before
    assert unpack(before.waits) == Counter(map(bucket, (5, 7)))
    assert pack(Counter({3: 0, 2: 1})) == pack(Counter({2: 1}))


def test_outcomes_tell_their_end_and_whether_the_job_was_given_up() -> None:
    for end in End:
        for gave_up in (False, True):
            outcome = outcome_of(end, gave_up=gave_up)
            assert (end_of(outcome), outcome >= GAVE_UP) == (end, gave_up)
    assert len(set(OUTCOMES.values())) == len(End)
    assert quantile({}, 0.5) is None
    assert quantile({3: 0}, 0.5) is None


def test_only_facts_that_end_an_attempt_are_samples() -> None:
    last = Attempt(1, 9, "i", "w", 12.0)
    job = Job(seq=7, id="j", task="t", queue="q", queued_at=10.5, last=last)
    done = sample_of(job, f.Succeeded(7, 9, 15.0))
    assert done is not None
    assert (done.key, done.instance, done.waited, done.ran) == (Key("q", "t", 1, "w"), "i", 1_500_000, 3_000_000)
    lost = sample_of(Job(seq=7, id="j", task="t", last=last), f.Ended(7, 9, Event.EXHAUST, End.LOST, 11.0))
    assert lost is not None
    assert (lost.key.outcome, lost.waited, lost.ran) == (outcome_of(End.LOST, gave_up=True), 0, 0)
    assert sample_of(job, f.Purged(7)) is None


# --- the roll-up of a ledger ---------------------------------------------------------------------------------------


def rows(found: RollUp, span: int) -> dict[tuple[int, Key], Packed]:
    """All minutes or hours of a roll-up, keys that come twice added up."""
    read = found.minute if span == MINUTES else found.hour
    cells: dict[tuple[int, Key], Cell] = {}
    for number in found.numbers(span):
        for key, cell in read(number):
            into = cells.setdefault((number, key), Cell())
            into.merge(cell) if isinstance(cell, Cell) else cell.add_to(into)
    return {place: cell.packed() for place, cell in cells.items()}


def by_hand(log: list[f.Fact], span: int) -> dict[tuple[int, Key], Packed]:
    """The same from the facts, one by one."""
    jobs = Ledger()
    cells: dict[tuple[int, Key], Cell] = {}
    for fact in log:
        job = jobs.table.get(getattr(fact, "seq", 0))
        sample = None if job is None else sample_of(job, fact)
        if sample is not None:
            cells.setdefault((int(sample.at // span), sample.key), Cell()).add(
                [sample.waited], [sample.ran], told=[sample.duration]
            )
        jobs.apply(fact)
    kept = max(number for number, _ in cells) - HOURS_KEPT * HOURS // span
    return {place: cell.packed() for place, cell in cells.items() if place[0] > kept}


@feature("H8", "H9")
@pytest.mark.parametrize("seed", range(4))
def test_minutes_and_hours_are_what_the_facts_tell(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "NOTED_MAX", 3)
    monkeypatch.setattr(rollup, "PACKED_AT_ONCE", 1)
    life = Life(seed).live(400)
    for span in (MINUTES, HOURS):
        found, truth = rows(life.ledger.rollup, span), by_hand(life.facts, span)
        assert {place: packed for place, packed in found.items() if place in truth} == truth
        assert len(found) <= len(truth) + 60  # what is too old goes when it is packed
    assert rows(life.ledger.rollup, HOURS)


@feature("B4")
def test_figures_survive_a_snapshot_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(9).live(300)
    again = Ledger()
    restore(again, records_of(life.ledger))
    more = life.facts[:]
    life.live(300)
    again.replay(life.facts[len(more) :])
    for span in (MINUTES, HOURS):
        assert rows(again.rollup, span) == rows(life.ledger.rollup, span)
    assert list(again.rollup.facts()) == list(life.ledger.rollup.facts())


def ended(bench: Bench, at: float, queue: str = "default") -> None:
    """Let one more job succeed at a time."""
    bench.now = at
    bench.add(f"{queue}-{at}", queue=queue)
    want = c.Want(queues=(c.QueueWant(queue, 1),), limit=1, instance="i1", worker="w")
    [claim] = bench.do(want).items
    bench.settle(claim, c.Succeeded())


def test_what_is_kept_is_bounded_in_time() -> None:
    bench = Bench()
    for hour in (0, 1, HOURS_KEPT, HOURS_KEPT + 1):
        ended(bench, 10_000 * 3_600.0 + hour * 3_600.0)
    found = bench.ledger.rollup
    list(found.facts())
    assert found.numbers(HOURS) == [10_000 + hour for hour in (1 + 1, HOURS_KEPT, HOURS_KEPT + 1) if hour != 2]
    assert found.numbers(MINUTES) == [60 * number for number in found.numbers(HOURS)]


def test_what_is_kept_is_bounded_in_rows_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "ROWS_MAX", 5)
    bench = Bench()
    for minute in range(10):
        ended(bench, 3_600.0 * 100 + minute * 60.0, queue=f"q{minute}")
    assert len(bench.ledger.rollup.numbers(MINUTES)) <= 6  # five at rest, and the one that runs
    assert bench.ledger.rollup.numbers(MINUTES)[-1] == 60 * 100 + 9
    [batch] = list(bench.ledger.rollup.facts())
    assert sum(1 for fact in batch if isinstance(fact, f.Figured) and fact.span == MINUTES) == 5


def test_many_figures_go_into_a_snapshot_in_pieces() -> None:
    bench = Bench()
    for number in range(600):
        ended(bench, 360_000.0, queue=f"q{number}")
    batches = list(bench.ledger.rollup.facts())
    assert [len(batch) > 0 for batch in batches] == [True, True] or len(batches) == 2
    assert sum(map(len, batches)) == 1_200


def test_a_ledger_may_keep_no_figures() -> None:
    bench = Bench()
    bench.ledger.rollup.enabled = False
    ended(bench, 5_000.0)
    bench.ledger.apply(f.Figured(MINUTES, 1, "q", "t", 1, "w", 1, 1, 1, b"\x80", b"\x80"))
    assert bench.ledger.rollup.numbers(MINUTES) == []
    assert list(bench.ledger.rollup.facts()) == [[]]


def test_attempts_counted_together_are_as_if_counted_one_by_one() -> None:
    one, other = Cell(), Cell()
    one.add([5, 5], [9, 9], told=[0.5, None])
    other.count(5, 9, 2, *timing(0.5))
    assert one.packed() == other.packed()
    assert timing(None) == (0, 0)
    other.count(5, 9, -2, -1, -500_000)
    assert other.packed() == Cell().packed()
