import pytest

from holdfast.errors import StoreCorrupt
from holdfast.wal import LogDamaged, LogIO, NewerFormat, Options, OsFiles, Recovery, UnsafeFolder, open_log
from holdfast.wal.frame import CRC, DATA, FIELDS, HEADER_SIZE, encode_group, seed_of
from holdfast.wal.layout import Mark, decode_mark, encode_slot, read_mark
from holdfast.wal.segment import SIZE, decode_header, encode_header, salt_in
from tests.features import feature
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill, payloads
from tests.wal.world import SMALL, recover, still

FIRST = "00000000000000000001.log"


def _journal(*items: bytes, clean: bool = False) -> dict[str, bytes]:
    """The files of a journal with these payloads, all acknowledged; left by a kill unless `clean`."""
    disk = SimDisk()
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    for item in items:
        fill(log, item)
    log.close() if clean else log.abandon()
    return {name: data for name, data in disk.contents().items() if name != "LOCK" and not name.endswith(".tmp")}


def _ends(files: dict[str, bytes], name: str = FIRST) -> list[int]:
    """Where each frame of a segment ends."""
    at, ends = SIZE, []
    while files[name][at : at + 3] == b"HFR":
        at += HEADER_SIZE + (FIELDS.unpack_from(files[name], at)[5] + 7) // 8 * 8
        ends.append(at)
    return ends


def _mark(durable: int, epoch: int = 1) -> bytes:
    return encode_slot(Mark(durable, epoch)).ljust(4128, b"\0")


def _sealed(head: bytes) -> bytes:
    """`head` with its checksum made right again."""
    from zlib import crc32

    return head + CRC.pack(crc32(head))


@feature("B22", "B30")
def test_an_empty_folder_becomes_a_store_of_its_own(disk: SimDisk, open_: Open) -> None:
    recovery = Recovery.begin(disk, SMALL)
    assert recovery.fresh
    assert recovery.snapshot is None
    assert list(recovery.records()) == []
    assert list(recovery.replay()) == []
    log = recovery.serve(threaded=False)
    assert (log.epoch, log.accepted) == (1, 0)
    log.close()
    again = Recovery.begin(disk, SMALL)
    assert (again.fresh, again.store_id) == (False, recovery.store_id)
    again.close()


def test_a_real_folder_is_private_and_can_be_opened_again(folder: OsFiles) -> None:
    log = open_log(folder)
    log.wait_synced(log.append([b"kept"]))
    log.close()
    import os
    import stat

    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    for name in folder.list():
        mode = stat.S_IMODE(os.stat(os.path.join(folder.path, name)).st_mode)
        assert mode == (0o700 if name == "quarantine" else 0o600), name
    assert payloads(folder, Options()) == [b"kept"]


def test_an_interrupted_creation_is_begun_again(disk: SimDisk) -> None:
    seen = 0

    def crash(call: str, name: str) -> None:
        nonlocal seen
        seen += 1
        left = disk.killed()
        recover(left)
        assert recover(left.killed()).payloads == ()

    disk.after = crash
    recover(disk)
    assert seen > 10


@feature("B24")
@pytest.mark.parametrize("what", ["frames", "snapshot", "mark", "another segment"])
def test_a_folder_that_lost_only_format_is_not_taken_for_an_empty_one(what: str) -> None:
    whole = _journal(b"a", b"b")
    files = {
        "frames": {FIRST: whole[FIRST]},
        "snapshot": {"00000000000000000007.snap": b""},
        "mark": {"MARK": whole["MARK"]},
        "another segment": {"00000000000000000009.log": b""},
    }[what]
    with pytest.raises(LogDamaged, match="FORMAT at byte 0: the file is missing"):
        Recovery.begin(SimDisk(files))


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"HOLDFAST" + bytes(56)])
def test_a_damaged_format_file_is_refused(content: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="FORMAT"):
        Recovery.begin(SimDisk({**_journal(b"a"), "FORMAT": content}))


def test_a_newer_format_is_refused_by_name() -> None:
    files = _journal(b"a")
    head = bytearray(files["FORMAT"][:-4])
    head[8] = 2
    with pytest.raises(NewerFormat, match="expected format up to 1, found 2"):
        Recovery.begin(SimDisk({**files, "FORMAT": _sealed(bytes(head))}))
    head[8], head[16] = 1, 4
    with pytest.raises(NewerFormat, match="incompatible flags"):
        Recovery.begin(SimDisk({**files, "FORMAT": _sealed(bytes(head))}))
    head[16], head[12] = 0, 4  # a compatible flag may be ignored
    assert payloads(SimDisk({**files, "FORMAT": _sealed(bytes(head))})) == [b"a"]


def test_a_newer_segment_is_refused_by_name() -> None:
    files = _journal(b"a")
    head = bytearray(files[FIRST][: SIZE - 4])
    head[8] = 2
    with pytest.raises(NewerFormat, match="segment version"):
        Recovery.begin(SimDisk({**files, FIRST: _sealed(bytes(head)) + files[FIRST][SIZE:]}))


def _with_frame(files: dict[str, bytes], *, version: int = 1, kind: int = DATA, flags: int = 1) -> dict[str, bytes]:
    """`files` with one more frame, of a kind that we choose, behind the others."""
    from zlib import crc32

    data, ends = files[FIRST], _ends(files)
    seed, at, number = seed_of(salt_in(data)), ends[-1], len(ends) + 1
    previous = CRC.unpack_from(data, (ends[-2] if len(ends) > 1 else SIZE) + FIELDS.size)[0]
    head = FIELDS.pack(b"HFR", version, kind, flags, 0, 3, crc32(b"new", seed), number, 0, previous)
    frame = head + CRC.pack(crc32(head, seed)) + b"new\0\0\0\0\0"
    return {**files, FIRST: data[:at] + frame + data[at + len(frame) :]}


def test_a_frame_that_must_be_understood_and_is_not_is_refused() -> None:
    files = _journal(b"a", b"b")
    assert payloads(SimDisk(_with_frame(files))) == [b"a", b"b", b"new"]
    with pytest.raises(NewerFormat, match="frame 3 of type"):
        payloads(SimDisk(_with_frame(files, kind=9)))
    with pytest.raises(NewerFormat, match="frame 3 of version"):
        payloads(SimDisk(_with_frame(files, version=2)))


def test_a_frame_of_an_unknown_type_that_may_be_ignored_is_passed_over() -> None:
    assert payloads(SimDisk(_with_frame(_journal(b"a", b"b"), kind=9, flags=0))) == [b"a", b"b"]


def test_a_mark_with_one_torn_slot_is_still_evidence() -> None:
    both = bytearray(_mark(7, 3))
    both[4096:4128] = encode_slot(Mark(9, 2))
    assert decode_mark(bytes(both)) == Mark(9, 3)
    both[4100] ^= 1
    assert decode_mark(bytes(both)) == Mark(7, 3)
    both[5] ^= 1
    assert decode_mark(bytes(both)) is None
    wrong_magic = _sealed(b"????" + encode_slot(Mark(5, 5))[4:28])
    assert decode_mark(wrong_magic) is None
    assert decode_mark(b"short") is None


@feature("B24", "BW10")
def test_a_torn_tail_is_set_aside_and_the_rest_is_served() -> None:
    files = _journal(b"one", b"two", b"three" * 30)
    cut = _ends(files)[1]
    torn = files[FIRST][: cut + 60] + bytes(len(files[FIRST]) - cut - 60)
    disk = SimDisk({**files, FIRST: torn, "MARK": _mark(2)})
    recovery = Recovery.begin(disk, SMALL)
    assert [frame.payload for frame in recovery.replay()] == [b"one", b"two"]
    log = recovery.serve(threaded=False, monotonic=still)
    [notice] = recovery.notices
    assert (notice.file, notice.offset, notice.first, notice.last) == (FIRST, cut, 3, 3)
    assert "torn tail: 60 bytes" in notice.text
    [kept] = disk.list("quarantine")
    assert disk.contents()[f"quarantine/{kept}"] == torn[cut : cut + 60]
    assert disk.contents()[FIRST] == torn[:cut]
    assert fill(log, b"after") == 3
    log.close()
    assert payloads(disk) == [b"one", b"two", b"after"]


def test_a_valid_frame_above_all_evidence_is_accepted() -> None:
    files = _journal(b"one", b"two")
    assert payloads(SimDisk({**files, "MARK": _mark(0)})) == [b"one", b"two"]
    assert payloads(SimDisk({name: data for name, data in files.items() if name != "MARK"})) == [b"one", b"two"]


@feature("B24")
def test_damage_below_what_was_acknowledged_is_refused_with_file_offset_and_numbers() -> None:
    files = _journal(b"one", b"two", b"three", b"four")
    at = _ends(files)[1]
    broken = bytearray(files[FIRST])
    broken[at + HEADER_SIZE] ^= 1
    disk = SimDisk({**files, FIRST: bytes(broken)})
    with pytest.raises(LogDamaged) as refused:
        recover(disk)
    error = refused.value
    assert (error.file, error.offset, error.first, error.last) == (FIRST, at, 3, 4)
    assert "the payload of frame 3 does not match its checksum" in str(error)
    assert "MARK shows that frames up to 4 were durable" in str(error)
    assert "holdfast journal repair" in str(error)
    assert {name: data for name, data in disk.contents().items() if name != "LOCK"} == {**files, FIRST: bytes(broken)}


def test_a_valid_frame_behind_a_hole_decides_by_what_it_says_was_synced() -> None:
    # Frames 2 and 3 were one group: 3 may reach the disk before 2, and proves nothing. Frame 4 knows that 3 was synced.
    disk = SimDisk()
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    fill(log, b"one")
    fill(log, b"two", b"three")
    fill(log, b"four")
    log.abandon()
    files = {name: data for name, data in disk.contents().items() if name != "MARK" and not name.endswith(".tmp")}
    ends = _ends(files)
    hole = bytearray(files[FIRST])
    hole[ends[0] : ends[1]] = bytes(ends[1] - ends[0])
    with pytest.raises(LogDamaged, match=r"Frames 2 to 4 .* a frame in .* up to 3 were durable"):
        payloads(SimDisk({**files, FIRST: bytes(hole)}))
    hole[ends[2] :] = bytes(len(hole) - ends[2])
    assert payloads(SimDisk({**files, FIRST: bytes(hole)})) == [b"one"]


def test_a_seal_behind_a_hole_is_no_evidence() -> None:
    disk = SimDisk()
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    fill(log, b"one")
    at = log._writer.offset
    fill(log, b"two")
    log.close()
    files = {name: data for name, data in disk.contents().items() if name != "MARK"}
    # The group of frame 2 and the seal, both unsynced as far as any of them knows.
    data, header = files[FIRST], decode_header(FIRST, files[FIRST])
    assert header is not None
    previous = CRC.unpack_from(data, SIZE + FIELDS.size)[0]
    two, crc = encode_group([b"two"], after=1, synced=1, previous_crc=previous, seed=header.seed)
    seal, _ = encode_group([b""], after=2, synced=1, previous_crc=crc, seed=header.seed, kind=2)
    whole = data[:at] + two + seal
    assert payloads(SimDisk({**files, FIRST: whole})) == [b"one", b"two"]
    hole = data[:at] + bytes(len(two)) + seal
    assert payloads(SimDisk({**files, FIRST: hole})) == [b"one"]


def test_evidence_is_found_in_a_segment_whose_header_is_damaged() -> None:
    files = {name: data for name, data in _journal(b"one", b"two").items() if name != "MARK"}
    damaged = bytearray(files[FIRST])
    damaged[16] ^= 1
    with pytest.raises(LogDamaged, match=r"its header does not validate.*Frames 1 to 2"):
        payloads(SimDisk({**files, FIRST: bytes(damaged)}))


def test_a_segment_without_evidence_is_moved_to_quarantine_not_removed() -> None:
    files = _journal(b"one", clean=True)  # sealed: frames 1 and 2
    disk = SimDisk({**files, "00000000000000000003.log": b"half a header"})
    recovery = Recovery.begin(disk, SMALL)
    assert [frame.payload for frame in recovery.replay()] == [b"one"]
    log = recovery.serve(threaded=False, monotonic=still)
    assert disk.contents()["quarantine/00000000000000000003.log-1"] == b"half a header"
    assert any("holds no acknowledged frame" in notice.text for notice in recovery.notices)
    assert fill(log, b"two") == 3
    log.abandon()


def test_a_segment_from_another_time_is_refused_whatever_the_evidence() -> None:
    disk = SimDisk(_journal(b"one", clean=True))
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    fill(log, b"two")
    log.abandon()
    name = "00000000000000000003.log"
    data = disk.contents()[name]
    header = decode_header(name, data)
    assert header is not None
    import msgspec

    other = msgspec.structs.replace(header, previous_crc=header.previous_crc ^ 1)
    with pytest.raises(LogDamaged, match="does not fit frame 2"):
        payloads(SimDisk({**disk.contents(), "LOCK": b"", name: encode_header(other) + data[SIZE:]}))


def test_a_segment_of_another_store_is_named_as_such() -> None:
    one, other = _journal(b"one"), _journal(b"other")
    with pytest.raises(LogDamaged, match="it belongs to another store"):
        payloads(SimDisk({**one, FIRST: other[FIRST]}))


def test_bytes_behind_the_end_of_a_finished_segment_are_reported_and_harmless() -> None:
    disk = SimDisk(_journal(b"one", clean=True))
    recover(disk)
    files = disk.contents()
    files[FIRST] += b"rubbish "
    recovery = Recovery.begin(SimDisk(files), SMALL)
    assert [frame.payload for frame in recovery.replay()] == [b"one"]
    assert "8 bytes behind the last frame" in recovery.notices[0].text
    recovery.close()


def test_a_clean_stop_is_trusted_and_any_other_is_copied(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"one")
    log.close()
    before = disk.names[FIRST]
    open_(disk).abandon()
    assert disk.names[FIRST] is before
    log = open_(disk)
    fill(log, b"two")
    log.abandon()
    name = "00000000000000000003.log"
    before = disk.names[name]
    open_(disk).abandon()
    assert disk.names[name] is not before


def test_starts_without_work_leave_one_empty_segment(disk: SimDisk, open_: Open) -> None:
    for _ in range(3):
        open_(disk).close()
        open_(disk).abandon()
    log = open_(disk)
    assert [name for name in disk.list() if name.endswith(".log")] == [FIRST]
    assert log.epoch == 7
    assert read_mark(disk) == Mark(0, 7)


def test_own_leftovers_are_removed_and_strange_files_left_alone(disk: SimDisk, open_: Open) -> None:
    open_(disk).close()
    for name in ("spare-7.tmp", "snapshot-3-99-ab.tmp", "notes.txt", "mine.tmp", "1.log"):
        disk.close(disk.create(name))
    open_(disk).close()
    assert {"notes.txt", "mine.tmp", "1.log"} <= set(disk.list())
    assert not {"spare-7.tmp", "snapshot-3-99-ab.tmp"} & set(disk.list())


def test_replay_may_be_left_early_and_serving_still_reads_everything(disk: SimDisk) -> None:
    files = _journal(b"one", b"two")
    recovery = Recovery.begin(SimDisk(files), SMALL)
    assert next(iter(recovery.replay())).payload == b"one"
    log = recovery.serve(threaded=False)
    assert log.accepted == 2
    log.abandon()


def test_a_refused_start_gives_the_lock_back() -> None:
    files = _journal(b"one", b"two")
    disk = SimDisk({**files, FIRST: files[FIRST][:100]})
    for _ in range(2):
        with pytest.raises(LogDamaged):
            Recovery.begin(disk, SMALL).serve()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_start_that_fails_half_way_gives_everything_back(disk: SimDisk, fresh: bool) -> None:
    if not fresh:
        recover(disk)
    messages = set()
    for call in range(1, 60):
        if fresh:
            disk = SimDisk()
        disk.fail_after(call, 5)
        try:
            Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still).abandon()
        except LogIO as error:
            messages.add(str(error).split(": ")[1])
        disk.before = None
        assert not any(node.locked for node in disk.names.values())
    assert "preparing the journal" in messages
    recover(disk)


def test_a_network_file_system_is_refused_unless_the_risk_is_accepted() -> None:
    class Remote(SimDisk):
        def kind(self) -> str:
            return "nfs4"

    with pytest.raises(UnsafeFolder, match="found nfs4"):
        Recovery.begin(Remote())
    recover(Remote(), Options(segment_bytes=4096, reserve_segments=0, allow_network=True))


def test_a_log_without_a_clock_uses_the_real_one_and_may_have_a_thread(folder: OsFiles) -> None:
    log = Recovery.begin(folder, SMALL).serve()
    assert log.wait_synced(log.append([b"x"]), timeout=60)
    log.close()
