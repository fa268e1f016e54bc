"""The lines in which jobs wait: whatever comes and goes in whatever order, the first is the lowest that counts."""

from __future__ import annotations

import random

import pytest

from holdfast.job.ledger.lines import Heap, Row, seq_of

COUNT = 6_000
BITS = 56


def entry_of(place: int, seq: int) -> int:
    return place << BITS | seq


@pytest.mark.parametrize("kind", [Heap, Row])
@pytest.mark.parametrize("seed", range(5))
def test_the_first_is_the_lowest_that_counts(kind: type[Heap], seed: int) -> None:
    rng, line, model = random.Random(seed), kind(), dict[int, int]()
    for _ in range(COUNT):
        seq = rng.randrange(200)
        if rng.random() < 0.6:
            model[seq] = entry_of(rng.randrange(50), seq)
            line.add(seq, model[seq])
        elif rng.random() < 0.5:
            model.pop(seq, None)
            line.drop(seq)
        else:
            model.pop(seq_of(line.first() or 0), None)
            line.live.pop(seq_of(line.first() or 0), None)
        assert line.first() == min(model.values(), default=None)
        assert len(line) == len(model)


@pytest.mark.parametrize("kind", [Heap, Row])
def test_what_left_from_behind_is_thrown_out_before_it_outgrows_what_waits(kind: type[Heap]) -> None:
    line = kind()
    for seq in range(COUNT):
        line.add(seq, entry_of(0, seq))
    for seq in range(1, COUNT):
        line.drop(seq)
    assert line.first() == entry_of(0, 0)
    line.drop(0)
    assert line.first() is None


def test_those_that_come_in_order_are_handed_out_in_order_between_those_that_do_not() -> None:
    row = Row()
    for seq, place in enumerate([5, 7, 3, 9, 1, 7]):
        row.add(seq, entry_of(place, seq))
    found = []
    while (first := row.first()) is not None:
        found.append(first >> BITS)
        row.drop(seq_of(first))
    assert found == [1, 3, 5, 7, 7, 9]


@pytest.mark.parametrize("seed", range(20))
def test_those_that_stand_in_a_row_are_the_lowest_that_count_each_once(seed: int) -> None:
    rng, row, model = random.Random(seed), Row(), dict[int, int]()
    for _ in range(300):
        if rng.random() < 0.5:
            new = sorted(set(rng.sample(range(100), 8)) - model.keys())
            entries = [entry_of(rng.randrange(3) if rng.random() < 0.3 else 5, seq) for seq in new]
            row.add_all(entries)
            model.update(zip(new, entries, strict=True))
        if model:
            seq = rng.choice(list(model))  # it leaves, and comes back to its old place
            row.drop(seq)
            row.add(seq, model[seq])
        found = list(row.in_a_row())
        assert found == sorted(model.values())[: len(found)]
        for entry in found[: rng.randrange(1, 5)]:
            row.drop(seq_of(entry))
            del model[seq_of(entry)]
    assert row.first() == min(model.values(), default=None)


def test_the_last_of_a_row_that_left_and_came_back_to_its_place_stands_there_once() -> None:
    row, entries = Row(), [entry_of(5, seq) for seq in range(3)]
    row.add_all(entries)
    row.drop(2)
    row.add(2, entries[2])
    assert list(row.in_a_row()) == entries
