"""A ledger as a stream of records: whole, in parts, and refused when something is missing."""

import msgspec
import pytest

from holdfast.errors import StoreCorrupt
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, canonical
from holdfast.job.ledger import snapshot as s
from holdfast.job.model import Job
from tests.features import feature
from tests.job.bench import Bench
from tests.job.histories import Life


@pytest.fixture(scope="module")
def life() -> Life:
    """A ledger with some of everything."""
    life = Life(5).live(300)
    for n in range(10_001):
        life.ledger.apply(f.KeyLinked(f"k{n}", 1, "i1", n))
    return life


@feature("B4", "B17")
def test_a_stream_of_records_makes_the_same_ledger(life: Life) -> None:
    records = list(s.records_of(life.ledger))
    fresh = Ledger()
    assert s.restore(fresh, records) == len(life.ledger.table)
    assert canonical(fresh) == canonical(life.ledger)
    assert list(s.records_of(fresh)) == records


@feature("B4")
def test_jobs_come_by_their_number_and_tell_it_without_being_decoded(life: Life) -> None:
    records = list(s.records_of(life.ledger))
    numbers = [number for number in map(s.seq_of_record, records) if number is not None]
    assert numbers == sorted(life.ledger.table)
    assert [s.job_of_record(record) for record in records if s.seq_of_record(record) is not None] == [
        life.ledger.table[number] for number in numbers
    ]
    assert s.seq_of_record(records[0]) is s.seq_of_record(records[-1]) is None


@pytest.mark.parametrize("part_bytes", [1, 2, 7, 100, 10_000])
def test_records_cut_into_parts_come_back_whole(part_bytes: int) -> None:
    ledger = Life(6).live(60).ledger
    records = list(s.records_of(ledger))
    parts = list(s.cut(records, part_bytes))
    assert max(map(len, parts)) <= part_bytes + 1
    assert list(s.joined(parts)) == records
    fresh = Ledger()
    s.restore(fresh, parts)
    assert canonical(fresh) == canonical(ledger)


@feature("B30")
def test_a_stream_that_ends_too_early_is_refused(life: Life) -> None:
    records = list(s.records_of(Life(6).live(60).ledger))
    for short in ([], records[1:], records[:-1]):
        with pytest.raises(StoreCorrupt, match="without them"):
            s.restore(Ledger(), short)
    with pytest.raises(StoreCorrupt, match="last part"):
        list(s.joined(list(s.cut(records, 10))[:3]))


@feature("B30")
def test_a_record_that_nobody_knows_or_of_a_later_version_is_refused() -> None:
    with pytest.raises(StoreCorrupt, match="expected a head record"):
        s.restore(Ledger(), [b"?what"])
    later = b"H" + msgspec.msgpack.encode(s.Head(s.VERSION + 1, 1))
    with pytest.raises(StoreCorrupt, match="A newer Holdfast wrote them"):
        s.restore(Ledger(), [later])
    assert s.head_of_record(s.head_record(7)) == s.Head(s.VERSION, 7)


@feature("B30")
def test_a_damaged_job_is_refused() -> None:
    record = s.job_record(Job(seq=1, id="x", task="t"))
    with pytest.raises(msgspec.MsgspecError):
        s.restore(Ledger(), [s.head_record(2), record[:-3]])


@feature("B17", "B9")
def test_a_restored_ledger_knows_whose_window_holds_a_unique_key() -> None:
    bench = Bench()
    for job_id, window in (("first", 10.0), ("second", 500.0)):
        bench.add(job_id, unique="u", unique_window=window)
        bench.settle(bench.claim()[0], c.Succeeded(b"1"))
        bench.now += 20.0
    fresh = Ledger()
    s.restore(fresh, s.records_of(bench.ledger))
    holders = [ledger.holder("u", bench.now) for ledger in (bench.ledger, fresh)]
    assert [holder.id for holder in holders if holder is not None] == ["second", "second"]
