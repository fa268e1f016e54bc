"""Facts are stored: their encoding loses nothing, and old ones stay readable for ever."""

import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.job import facts as f
from holdfast.job.model import Job
from holdfast.job.state import End, Event
from tests.features import feature
from tests.job.strategies import structs

KINDS: tuple[type[msgspec.Struct], ...] = typing.get_args(f.Fact)
#: The numbers of the facts, for ever: a number is never used twice, and none of these may change.
NUMBERS = {
    "Added": 1, "Readied": 2, "Claimed": 3, "Succeeded": 4, "Ended": 5, "Progressed": 6, "Refused": 7, "CancelAsked": 8,
    "Canceled": 9, "Paused": 10, "Resumed": 11, "Edited": 12, "Retried": 13, "Replayed": 14, "Deleted": 15, "Purged": 16,
    "Bound": 17, "QueueSaved": 20, "QueueDeleted": 21, "DefinitionSaved": 22, "ScheduleSaved": 23, "WorkerSaved": 24,
    "WorkerDeleted": 25, "InstanceSaved": 26, "InstanceGone": 27, "OperationSaved": 28, "Opened": 29, "KeyLinked": 30,
    "Audited": 31, "Recorded": 32, "Exported": 33, "DefinitionDeleted": 34, "Figured": 35,
    "Forgotten": 36, "Reported": 37,
}  # fmt: skip
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])


@each_kind
def test_every_fact_is_read_as_it_was_written(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=40, derandomize=True, deadline=None)
    @given(st.lists(structs(kind), max_size=3))
    def check(facts: list[typing.Any]) -> None:
        assert f.decode_facts(f.encode_facts(facts)) == facts
        assert f.decode_facts(f.encode_facts(iter(facts))) == facts

    check()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.one_of([structs(kind) for kind in KINDS]), max_size=6))
def test_facts_of_all_kinds_stand_in_one_step_in_their_order(facts: list[typing.Any]) -> None:
    assert f.decode_facts(f.encode_facts(facts)) == facts


@feature("B4", "B16", "BW1")
@settings(max_examples=100, derandomize=True, deadline=None)
@given(structs(Job))
def test_a_job_is_read_as_it_was_written(job: Job) -> None:
    assert f.decode_job(f.encode_job(job)) == job


def test_the_numbers_of_facts_never_change() -> None:
    assert {kind.__name__: kind.__struct_config__.tag for kind in KINDS} == NUMBERS


def test_job_facts_are_those_that_name_a_job() -> None:
    named = {kind for kind in KINDS if hasattr(kind, "seq")}
    assert set(typing.get_args(f.JobFact)) == named


#: What the first version wrote. These lines may be added to, and never changed: journals hold such bytes.
GOLDEN = {
    "919201de0006a373657107a26964a16aa47461736ba174a77061796c6f6164c40131a672756e5f6174cb4014000000000000aa6372656174"
    "65645f6174cb4014000000000000": f.Added(Job(seq=7, id="j", task="t", payload=b"1", run_at=5.0, created_at=5.0)),
    "9199030701cf0000000100000000a169a177a176cb4041800000000000cb4014000000000000": f.Claimed(
        7, 1, 2**32, "i", "w", "v", 35.0, 5.0
    ),
    "919a0407cf0000000100000000cb4018000000000000cb3ff8000000000000c40132c0c400a0a0": f.Succeeded(
        7, 2**32, 6.0, 1.5, b"2"
    ),
    "91dc0014050709ab7265747279206c61746572a66661696c6564cb4018000000000000cb4020000000000000c0c0a0a26e6fa0a0c400a0a0"
    "00c2c2c3": f.Ended(7, 9, Event.RETRY_LATER, End.FAILED, 6.0, run_at=8.0, error="no"),
    "9195070709cb401a000000000000a9737563636565646564": f.Refused(7, 9, 6.5, "succeeded"),
}


@pytest.mark.parametrize(("golden", "fact"), GOLDEN.items(), ids=[type(fact).__name__ for fact in GOLDEN.values()])
def test_what_the_first_version_wrote_stays_readable(golden: str, fact: f.Fact) -> None:
    assert f.decode_facts(bytes.fromhex(golden)) == [fact]


def test_fields_that_later_versions_add_have_defaults_so_old_facts_can_be_shorter() -> None:
    short = msgspec.msgpack.encode([[4, 7, 9, 12.5]])
    assert f.decode_facts(short) == [f.Succeeded(7, 9, 12.5)]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x92\x63\x01", b"\x01", b"\x91\x92\x10\xa1x", bytes(range(256))])
def test_bytes_that_are_no_facts_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        f.decode_facts(data)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_facts_or_refused_by_type(data: bytes) -> None:
    try:
        facts = f.decode_facts(data)
    except msgspec.MsgspecError:
        return
    assert f.decode_facts(f.encode_facts(facts)) == facts
