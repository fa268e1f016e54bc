import pytest

from holdfast.wal import LogDamaged, LogIO, NotReady, OsFiles, Recovery, publish_snapshot, retire, salvage, scan
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill
from tests.wal.world import SMALL, still

FIRST = "00000000000000000001.log"


def test_a_tool_reads_beside_a_live_writer_and_changes_nothing(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, threaded=True)
    log.wait_synced(log.append([b"a", b"b", b"c"]))
    log.wait_synced(log.rotate())
    log.wait_synced(log.append([b"d"]))
    before = set(folder.list())
    assert [(frame.number, frame.payload) for frame in scan(folder)] == [(1, b"a"), (2, b"b"), (3, b"c"), (5, b"d")]
    assert [frame.payload for frame in scan(folder, 2, 3)] == [b"b", b"c"]
    assert [frame.payload for frame in scan(folder, 5)] == [b"d"]
    assert list(scan(folder, 6)) == []
    assert set(folder.list()) == before


def test_reading_up_to_a_number_that_is_not_there_yet_says_so(disk: SimDisk, open_: Open) -> None:
    fill(open_(disk), b"a")
    with pytest.raises(NotReady):
        list(scan(disk, 1, 2))


@pytest.mark.parametrize(("moment", "seen"), [(2, [b"a", b"b"]), (3, [b"a", b"b", b"c"])])
def test_a_writer_that_goes_on_between_two_looks_does_not_look_like_damage(
    disk: SimDisk, open_: Open, moment: int, seen: list[bytes]
) -> None:
    log = open_(disk)
    fill(log, b"a")
    reads = []

    def move_on(call: str, name: str) -> None:
        """The writer goes on while the reader is between header and frames (2), or between frames and evidence (3)."""
        if call == "read" and name == FIRST:
            reads.append(name)
            if len(reads) == moment:
                fill(log, b"b")
                log.rotate()
                log.pump()
                fill(log, b"c")

    disk.before = move_on
    assert [frame.payload for frame in scan(disk)] == seen


def test_damage_that_stays_is_reported(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"a")
    fill(log, b"b")
    disk.names[FIRST].seen[140] ^= 1
    with pytest.raises(LogDamaged):
        list(scan(disk))


def test_segments_that_were_retired_while_reading_end_in_an_error_that_says_so(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    for item in range(4):
        fill(log, b"%d" % item)
        publish = log.rotate()
        log.pump()
        publish_snapshot(disk, publish, [b"state"])
    reader = scan(disk)
    assert next(reader).payload == b"0"
    retire(disk)
    with pytest.raises((LogDamaged, LogIO)):
        list(reader)


def test_salvage_shows_every_valid_frame_of_a_damaged_file(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    for item in (b"one", b"two", b"three", b"four"):
        fill(log, item)
    content = disk.names[FIRST].seen
    content[20] ^= 1  # the segment header
    content[96 + 48 + 41] ^= 1  # the payload of frame 2
    assert [(frame.number, frame.payload) for frame in salvage(disk, FIRST)] == [
        (1, b"one"),
        (3, b"three"),
        (4, b"four"),
    ]
    del content[50:]
    assert list(salvage(disk, FIRST)) == []


def test_salvage_of_a_missing_file_is_a_typed_error(disk: SimDisk) -> None:
    with pytest.raises(LogIO):
        list(salvage(disk, "quarantine/nothing"))


def test_reading_may_begin_inside_a_gap_or_behind_it(disk: SimDisk, open_: Open) -> None:
    from holdfast.wal import repair

    log = open_(disk)
    for item in (b"one", b"two", b"three"):
        fill(log, item)
    log.abandon()
    disk.names[FIRST].seen[96 + 48 + 41] ^= 1
    assert repair(disk, accept_loss=True, options=SMALL).lost == ((2, 3),)
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    assert fill(log, b"four") == 4
    for start in (1, 2, 3, 4):
        assert [f.payload for f in scan(disk, start)] == ([b"one", b"four"] if start == 1 else [b"four"])
    log.abandon()
