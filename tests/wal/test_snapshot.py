import contextlib
import errno
from collections.abc import Iterator

import pytest

from holdfast.errors import StoreFull, TooLarge
from holdfast.wal import (
    LogDamaged,
    NewerFormat,
    NotReady,
    Recovery,
    SnapshotDamaged,
    check_snapshot,
    plan_retirement,
    publish_snapshot,
    read_snapshot,
    retire,
    sealed_segments,
)
from holdfast.wal.errors import WalError
from holdfast.wal.frame import CRC, MAX_PAYLOAD, seed_of
from holdfast.wal.snapshot import SIZE, SnapshotInfo, write_snapshot
from tests.features import feature
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill, payloads
from tests.wal.world import SMALL


@pytest.fixture
def sealed(disk: SimDisk, open_: Open) -> SimDisk:
    """A journal with frames 1, 2 | seal 3 | 4 | seal 5 | 6."""
    log = open_(disk)
    fill(log, b"a", b"b")
    for item in (b"c", b"d"):
        log.rotate()
        log.pump()
        fill(log, item)
    log.abandon()
    return disk


@feature("B17", "B29", "B30")
def test_a_snapshot_stands_for_all_frames_up_to_its_number(sealed: SimDisk) -> None:
    info = publish_snapshot(sealed, 3, [b"state", b"", b"of three"])
    assert (info.number, info.records) == (3, 3)
    assert list(read_snapshot(sealed, 3)) == [b"state", b"", b"of three"]
    assert check_snapshot(sealed, 3, info.store_id) == info
    recovery = Recovery.begin(sealed, SMALL)
    assert recovery.snapshot == info
    assert list(recovery.records()) == [b"state", b"", b"of three"]
    assert [frame.number for frame in recovery.replay()] == [4, 6]
    recovery.close()


def test_a_snapshot_without_records_is_a_snapshot(sealed: SimDisk) -> None:
    publish_snapshot(sealed, 5, [])
    assert list(read_snapshot(sealed, 5)) == []
    assert payloads(sealed) == [b"d"]


def test_records_of_any_size_come_back_in_order(sealed: SimDisk) -> None:
    records = [bytes([item % 251]) * (item * 37) for item in range(300)] + [bytes(700_000)]
    publish_snapshot(sealed, 3, iter(records))
    assert list(read_snapshot(sealed, 3)) == records
    with pytest.raises(TooLarge, match="a snapshot record"):
        publish_snapshot(sealed, 5, [bytes(MAX_PAYLOAD + 1)])


def test_a_long_snapshot_is_synced_on_the_way(sealed: SimDisk) -> None:
    before = len(sealed.trace)
    publish_snapshot(sealed, 3, (bytes(1 << 20) for _ in range(20)))
    syncs = [call for call in sealed.trace[before:] if call[0] == "sync"]
    assert len(syncs) == 3


@pytest.mark.parametrize("number", [0, 1, 2, 4, 6, 7, 100])
def test_a_snapshot_stands_only_where_a_successor_proves_that_all_is_durable(sealed: SimDisk, number: int) -> None:
    with pytest.raises(NotReady, match=f"snapshot at {number}"):
        publish_snapshot(sealed, number, [b"state"])


def test_a_snapshot_that_reads_back_wrong_never_gets_its_name(sealed: SimDisk) -> None:
    def looks_wrong(records: Iterator[bytes]) -> bool:
        return next(records) == b"something else"

    with pytest.raises(SnapshotDamaged, match="differs from what was written"):
        publish_snapshot(sealed, 3, [b"state", b"more"], check=looks_wrong)
    assert not [name for name in sealed.list() if "snap" in name]
    publish_snapshot(sealed, 3, [b"state"], check=lambda records: list(records) == [b"state"])


def test_a_maker_that_fails_leaves_nothing_behind(sealed: SimDisk) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish_snapshot(sealed, 3, broken())
    assert not [name for name in sealed.list() if "snap" in name]


def test_too_little_room_is_noticed_before_and_while_writing(sealed: SimDisk) -> None:
    sealed.room = sealed.room - sealed.free() + 100_000
    with pytest.raises(StoreFull, match="a snapshot needs 110,"):
        publish_snapshot(sealed, 3, [], expected_size=100_001)
    with pytest.raises(StoreFull, match="no room"):
        publish_snapshot(sealed, 3, [bytes(300_000)] * 2)
    assert not [name for name in sealed.list() if "snap" in name]
    publish_snapshot(sealed, 3, [b"small"], expected_size=10)


def test_any_other_error_while_writing_leaves_nothing_behind(sealed: SimDisk) -> None:
    for call in range(1, 40):
        sealed.fail_after(call, errno.EIO)
        with contextlib.suppress(WalError):
            publish_snapshot(sealed, 3, [b"state"])
        sealed.before = None
        left = [name for name in sealed.list() if name.endswith(".tmp") and "snapshot" in name]
        # A descriptor or a name that refuses to go is left to the next start.
        assert len(left) <= 1
        for name in left:
            sealed.unlink(name)
    assert list(read_snapshot(sealed, 3)) == [b"state"]


def _parts(data: bytes) -> dict[str, tuple[int, str]]:
    return {
        "header": (20, "the header does not validate"),
        "chunk header": (SIZE + 6, "the header of a chunk"),
        "record": (SIZE + 36, "does not match its checksum"),
        "footer": (len(data) - 20, "the footer does not validate"),
    }


@pytest.mark.parametrize("part", ["header", "chunk header", "record", "footer"])
def test_a_damaged_part_is_found_and_the_older_snapshot_is_used(sealed: SimDisk, part: str) -> None:
    publish_snapshot(sealed, 3, [b"older"])
    publish_snapshot(sealed, 5, [b"newer"])
    name = f"{5:020}.snap"
    offset, why = _parts(sealed.contents()[name])[part]
    sealed.names[name].seen[offset] ^= 1
    with pytest.raises(SnapshotDamaged, match=why):
        check_snapshot(sealed, 5)
    recovery = Recovery.begin(sealed, SMALL)
    assert list(recovery.records()) == [b"older"]
    assert [frame.payload for frame in recovery.replay()] == [b"c", b"d"]
    assert why in recovery.notices[0].text
    assert name in sealed.list()  # kept for a person to look at
    recovery.close()


def test_something_behind_the_footer_or_a_missing_end_is_damage(sealed: SimDisk) -> None:
    publish_snapshot(sealed, 3, [b"state"])
    content = sealed.names[f"{3:020}.snap"].seen
    content.extend(b"x")
    with pytest.raises(SnapshotDamaged, match="something follows"):
        check_snapshot(sealed, 3)
    del content[-60:]
    with pytest.raises(SnapshotDamaged):
        list(read_snapshot(sealed, 3))


def _forge(sealed: SimDisk, at: int, data: bytes, *, header: int, size: int) -> None:
    """Change bytes of snapshot 3 and make the checksum over bytes `header` to `header + size` right again."""
    from zlib import crc32

    content = sealed.names[f"{3:020}.snap"].seen
    content[at : at + len(data)] = data
    seed = seed_of(bytes(content[32:40])) if header else 0
    content[header + size : header + size + 4] = CRC.pack(crc32(bytes(content[header : header + size]), seed))


def test_parts_that_validate_alone_but_not_together_are_damage(sealed: SimDisk) -> None:
    publish_snapshot(sealed, 3, [b"state"])
    whole = bytes(sealed.names[f"{3:020}.snap"].seen)
    _forge(sealed, SIZE + 16, b"\x07", header=SIZE, size=28)  # the chunk says that it is the eighth
    with pytest.raises(SnapshotDamaged, match="out of place; expected chunk 0"):
        check_snapshot(sealed, 3)
    sealed.names[f"{3:020}.snap"].seen[:] = whole
    _forge(sealed, SIZE + 8, b"\x02", header=SIZE, size=28)  # two records where one is
    with pytest.raises(SnapshotDamaged, match="exactly 2 records"):
        check_snapshot(sealed, 3)
    sealed.names[f"{3:020}.snap"].seen[:] = whole
    foot = len(whole) - 68
    _forge(sealed, foot + 16, b"\x09", header=foot, size=64)
    with pytest.raises(SnapshotDamaged, match="differ from what was read"):
        check_snapshot(sealed, 3)
    sealed.names[f"{3:020}.snap"].seen[:] = whole
    _forge(sealed, 8, b"\x02", header=0, size=92)
    with pytest.raises(NewerFormat, match="snapshot version"):
        check_snapshot(sealed, 3)


def test_a_snapshot_under_a_wrong_name_or_of_another_store_is_damage(sealed: SimDisk) -> None:
    info = publish_snapshot(sealed, 3, [b"state"])
    with pytest.raises(SnapshotDamaged, match="another store"):
        check_snapshot(sealed, 3, b"x" * 16)
    sealed.rename(f"{3:020}.snap", f"{5:020}.snap")
    with pytest.raises(SnapshotDamaged, match="renamed or copied"):
        list(read_snapshot(sealed, 5))
    assert info.number == 3


def test_a_snapshot_that_does_not_fit_the_log_behind_it_is_refused(sealed: SimDisk) -> None:
    info = publish_snapshot(sealed, 3, [b"state"])
    sealed.unlink(f"{3:020}.snap")
    foreign = SnapshotInfo(number=3, crc=info.crc ^ 1, epoch=1, store_id=info.store_id)
    write_snapshot(sealed, f"{3:020}.snap", foreign, [b"other"])
    with pytest.raises(LogDamaged, match="does not fit frame 3"):
        payloads(sealed)


@feature("B28", "B33")
def test_what_two_snapshots_make_unnecessary_goes_and_nothing_else(sealed: SimDisk, open_: Open) -> None:
    assert [(span.first, span.last) for span in sealed_segments(sealed)] == [(1, 3), (4, 5)]
    assert plan_retirement(sealed).names == ()
    publish_snapshot(sealed, 3, [b"older"])
    assert retire(sealed) == ()
    publish_snapshot(sealed, 5, [b"newer"])
    plan = plan_retirement(sealed)
    assert plan.kept == (5, 3)
    assert retire(sealed, plan) == (f"{1:020}.log",)
    log = open_(sealed)
    fill(log, b"e")
    last = log.rotate()
    log.pump()
    publish_snapshot(sealed, last, [b"newest"])
    # Frame 6 was left unsealed, so the span of its segment ends right there.
    assert set(retire(sealed)) == {f"{3:020}.snap", f"{4:020}.log"}
    log.abandon()
    recovery = Recovery.begin(sealed, SMALL)
    assert list(recovery.records()) == [b"newest"]
    recovery.close()


def test_a_damaged_snapshot_does_not_count_as_one_of_the_two(sealed: SimDisk) -> None:
    publish_snapshot(sealed, 3, [b"older"])
    publish_snapshot(sealed, 5, [b"newer"])
    sealed.names[f"{5:020}.snap"].seen[-1] ^= 1
    assert plan_retirement(sealed).names == ()


def test_a_plan_whose_snapshots_are_gone_removes_nothing(sealed: SimDisk) -> None:
    publish_snapshot(sealed, 3, [b"older"])
    publish_snapshot(sealed, 5, [b"newer"])
    plan = plan_retirement(sealed)
    sealed.unlink(f"{5:020}.snap")
    assert retire(sealed, plan) == ()
    assert f"{1:020}.log" in sealed.list()
