import pytest

from holdfast.errors import ConfigError
from holdfast.wal import (
    COUNT_BITS,
    LogDamaged,
    LogHeld,
    LossRefused,
    OsFiles,
    Recovery,
    backup,
    open_log,
    publish_snapshot,
    repair,
    restore,
    retire,
    salvage,
    sealed_segments,
    verify,
)
from holdfast.wal.layout import read_identity, read_mark
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill, payloads
from tests.wal.world import SMALL, Broken, recover, still

FIRST = "00000000000000000001.log"


@pytest.fixture
def journal(disk: SimDisk, open_: Open) -> SimDisk:
    """Frames 1, 2 | seal 3 | 4, 5 | seal 6 | 7, 8 in three segments, left by a kill."""
    log = open_(disk)
    for part in range(3):
        fill(log, b"%d.0" % part)
        fill(log, b"%d.1" % part)
        if part < 2:
            log.rotate()
            log.pump()
    log.abandon()
    return disk


def _damage(disk: SimDisk, name: str, offset: int) -> None:
    disk.names[name].seen[offset] ^= 1


# --------------------------------------------------------------------------------------------------------------- verify


def test_verify_tells_of_each_file_and_changes_nothing(journal: SimDisk) -> None:
    publish_snapshot(journal, 3, [b"state"])
    before = journal.contents()
    report = verify(journal)
    assert report.ok
    assert (report.last, report.durable, report.snapshot, report.epoch) == (8, 8, 3, 1)
    assert [(file.name, file.kind, file.items) for file in report.files] == [
        ("FORMAT", "format", 0),
        ("MARK", "mark", 0),
        (f"{3:020}.snap", "snapshot", 1),
        (FIRST, "segment", 3),
        (f"{4:020}.log", "segment", 3),
        (f"{7:020}.log", "segment", 2),
    ]
    assert journal.contents() == before


def test_verify_names_every_bad_file_also_where_the_log_would_open(journal: SimDisk) -> None:
    publish_snapshot(journal, 3, [b"older"])
    publish_snapshot(journal, 6, [b"newer"])
    _damage(journal, FIRST, 100)
    _damage(journal, f"{3:020}.snap", 50)
    journal.unlink("MARK")
    report = verify(journal)
    assert report.damage is None
    assert not report.ok
    bad = {file.name: file.bad_at for file in report.files if file.bad_at >= 0}
    assert bad == {"MARK": 0, FIRST: 96, f"{3:020}.snap": 0}


def test_verify_tells_damage_from_what_a_crash_leaves(journal: SimDisk) -> None:
    """A torn tail in the newest segment is what every crash may leave; behind a snapshot, a bad file is still damage."""
    last = verify(journal).files[-1].name
    _damage(journal, last, len(journal.names[last].seen) - 1)
    assert verify(journal).damaged == ()
    publish_snapshot(journal, 6, [b"state"])
    _damage(journal, FIRST, 40)
    assert [file.name for file in verify(journal).damaged] == [FIRST]


def test_verify_says_what_an_open_would_refuse(journal: SimDisk) -> None:
    _damage(journal, f"{4:020}.log", 20)
    report = verify(journal)
    assert report.damage is not None
    assert report.damage.file == f"{4:020}.log"
    assert [file.problem for file in report.files if file.name == f"{4:020}.log"] == ["its header does not validate"]


def test_verify_of_a_folder_without_a_journal_says_so(journal: SimDisk) -> None:
    report = verify(SimDisk())
    assert report.damage is not None
    assert "there is no journal here" in report.damage.problem
    _damage(journal, "FORMAT", 3)
    report = verify(journal)
    assert report.damage is not None
    assert report.damage.file == "FORMAT"


# --------------------------------------------------------------------------------------------------------------- repair


def test_a_journal_that_opens_is_left_alone(journal: SimDisk) -> None:
    before = {name: data for name, data in journal.contents().items() if name != "LOCK"}
    repaired = repair(journal)
    assert (repaired.lost, repaired.backup, repaired.done) == ((), "", ())
    assert {name: data for name, data in journal.contents().items() if name != "LOCK"} == before


def test_repair_names_what_would_be_lost_before_it_touches_anything(journal: SimDisk) -> None:
    _damage(journal, f"{4:020}.log", 96 + 48 + 41)  # payload of frame 5
    before = {name: data for name, data in journal.contents().items() if name != "LOCK"}
    with pytest.raises(LossRefused, match="frames 5 to 8") as refused:
        repair(journal)
    assert refused.value.lost == ((5, 8),)
    assert {name: data for name, data in journal.contents().items() if name != "LOCK"} == before


@pytest.mark.parametrize(
    "part", ["payload", "frame header", "segment header", "segment missing", "first segment missing"]
)
def test_an_accepted_loss_keeps_the_prefix_and_a_copy_and_never_reuses_a_number(journal: SimDisk, part: str) -> None:
    second = f"{4:020}.log"
    if part == "segment missing":
        journal.unlink(second)
    elif part == "first segment missing":
        journal.unlink(FIRST)
    else:
        _damage(journal, second, {"payload": 96 + 48 + 41, "frame header": 96 + 48 + 9, "segment header": 20}[part])
    before = journal.contents()
    kept = {"payload": 4, "frame header": 4, "first segment missing": 0}.get(part, 3)
    repaired = repair(journal, accept_loss=True, options=SMALL)
    assert repaired.lost == ((kept + 1, 8),)
    saved = {
        name.rpartition("/")[2]: data for name, data in journal.contents().items() if name.startswith(repaired.backup)
    }
    assert saved == {name: data for name, data in before.items() if not name.endswith(".tmp") and name != "LOCK"}
    log = Recovery.begin(journal, SMALL)
    found = [frame.payload for frame in log.replay()]
    assert found == [b"0.0", b"0.1", b"1.0"][: max(kept - 1, 2) if kept else 0]
    served = log.serve(threaded=False, monotonic=still)
    assert fill(served, b"after") == 9
    served.close()
    assert payloads(journal) == [*found, b"after"]
    assert read_mark(journal) is not None
    if part in ("payload", "frame header"):
        assert [frame.number for frame in salvage(journal, f"{repaired.backup}/{second}")] == [4, 6]
    # Numbers behind the gap go on through rotation, snapshot and another start.
    served = Recovery.begin(journal, SMALL).serve(threaded=False, monotonic=still)
    fill(served, b"more")
    last = served.rotate()
    served.pump()
    publish_snapshot(journal, last, [b"state"])
    served.abandon()
    assert payloads(journal) == []


def test_damage_behind_a_snapshot_keeps_the_snapshot(journal: SimDisk) -> None:
    publish_snapshot(journal, 3, [b"0.0", b"0.1"])
    _damage(journal, f"{4:020}.log", 20)
    assert repair(journal, accept_loss=True, options=SMALL).lost == ((4, 8),)
    assert recover(journal).payloads == (b"0.0", b"0.1")


def test_a_second_repair_after_damage_right_behind_a_gap_works_too(journal: SimDisk) -> None:
    _damage(journal, f"{4:020}.log", 20)
    repair(journal, accept_loss=True, options=SMALL)
    log = Recovery.begin(journal, SMALL).serve(threaded=False, monotonic=still)
    fill(log, b"nine")
    fill(log, b"ten")
    log.abandon()
    _damage(journal, f"{9:020}.log", 100)
    assert repair(journal, accept_loss=True, options=SMALL).lost == ((9, 10),)
    log = Recovery.begin(journal, SMALL).serve(threaded=False, monotonic=still)
    assert fill(log, b"eleven") == 11
    log.abandon()
    assert recover(journal).payloads == (b"0.0", b"0.1", b"eleven")


def test_a_lost_format_file_is_made_again_without_loss(journal: SimDisk) -> None:
    identity = read_identity(journal)
    journal.unlink("FORMAT")
    repaired = repair(journal)
    assert repaired.lost == ()
    assert repaired.done == ("FORMAT made again from the segment headers",)
    assert read_identity(journal) == identity
    _damage(journal, "FORMAT", 60)
    assert repair(journal).backup.endswith("repair-2")
    assert len(payloads(journal)) == 6


def test_a_lost_format_file_beside_no_segments_can_not_be_made_again(journal: SimDisk) -> None:
    with pytest.raises(LogDamaged, match="0 store ids"):
        repair(SimDisk({"FORMAT": b"nonsense", "00000000000000000001.log": b"x"}))


def test_a_crash_inside_a_repair_never_shortens_the_log_silently(journal: SimDisk) -> None:
    import random

    _damage(journal, f"{4:020}.log", 96 + 48 + 41)
    start, draw = journal.killed().contents(), random.Random(5)
    outcomes = set()
    for seed in range(4):
        disk = SimDisk(start)

        def crash(call: str, name: str, disk: SimDisk = disk) -> None:
            left = disk.killed() if draw.random() < 0.3 else disk.cut(draw)
            try:
                found = recover(left).payloads
            except LogDamaged:
                outcomes.add("refused")
                return
            outcomes.add("repaired")
            if found != (b"0.0", b"0.1", b"1.0"):
                raise Broken(f"after {call} of {name}: {found}")

        disk.after = crash
        repair(disk, accept_loss=True, options=SMALL)
        assert seed < 4
    assert outcomes == {"refused", "repaired"}


def test_repair_needs_the_journal_for_itself(folder: OsFiles, open_: Open) -> None:
    open_(folder)
    with pytest.raises(LogHeld):
        repair(folder)


def test_repair_copies_where_files_can_not_have_two_names(folder: OsFiles) -> None:
    def no_links(*names: object, **options: object) -> None:
        raise OSError(1, "Operation not permitted")

    log = open_log(folder)
    for item in (b"one", b"two"):
        log.wait_synced(log.append([item]))
    log.abandon()
    with open(f"{folder.path}/{FIRST}", "r+b") as file:
        file.seek(140)
        file.write(b"\xff")
    repaired = repair(OsFiles(folder.path, link=no_links), accept_loss=True)
    assert repaired.lost == ((1, 2),)
    assert FIRST in folder.list(repaired.backup)


# ------------------------------------------------------------------------------------------------------ backup, restore


def test_a_backup_beside_a_live_writer_holds_all_that_was_durable(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, threaded=True)
    log.wait_synced(log.append([b"a", b"b"]))
    log.wait_synced(log.rotate())
    publish_snapshot(folder, sealed_segments(folder)[-1].last, [b"a", b"b"])
    log.wait_synced(log.append([b"c"]))
    target = OsFiles(f"{folder.path}-backup")
    done = backup(folder, target)
    log.wait_synced(log.append([b"later"]))
    assert done.last == 4
    assert set(done.names) == {"FORMAT", "MARK", FIRST, f"{4:020}.log", f"{3:020}.snap"}
    assert recover_payloads(target) == [b"a", b"b", b"c"]


def recover_payloads(files: OsFiles | SimDisk) -> list[bytes]:
    recovery = Recovery.begin(files, SMALL)
    found = [*recovery.records(), *(frame.payload for frame in recovery.replay())]
    recovery.close()
    return found


def test_a_backup_leaves_out_what_was_not_yet_durable(journal: SimDisk) -> None:
    from holdfast.wal.layout import Mark, encode_slot

    journal.names["MARK"].seen[:] = encode_slot(Mark(7, 1)).ljust(4128, b"\0")
    target = SimDisk()
    assert backup(journal, target).last == 7
    assert recover_payloads(target)[-1] == b"2.0"
    journal.unlink("MARK")
    assert backup(journal, SimDisk()).last == 8
    journal.close(journal.create("MARK"))
    journal.names["MARK"].seen[:] = encode_slot(Mark(6, 1)).ljust(4128, b"\0")
    assert backup(journal, SimDisk()).names == (FIRST, f"{4:020}.log", "FORMAT", "MARK")


def test_a_restored_store_is_another_one_with_an_epoch_of_its_own(journal: SimDisk) -> None:
    publish_snapshot(journal, 3, [b"0.0", b"0.1"])
    publish_snapshot(journal, 6, [b"damaged later"])
    _damage(journal, f"{6:020}.snap", 50)
    journal.names[f"{7:020}.log"].seen[96 + 96 : 96 + 110] = b"a torn tail..."
    target = SimDisk()
    journal.close(journal.create(f"{9:020}.log"))
    done = restore(journal, target, now=0.0)
    assert f"{6:020}.snap" not in done.names
    recovery = Recovery.begin(target, SMALL)
    identity = read_identity(journal)
    assert identity is not None
    assert recovery.store_id != identity.store_id
    found = [*recovery.records(), *(frame.payload for frame in recovery.replay())]
    assert found == [b"0.0", b"0.1", b"1.0", b"1.1", b"2.0", b"2.1"]
    log = recovery.serve(threaded=False, monotonic=still)
    drawn, count = divmod(log.epoch, 1 << COUNT_BITS)
    assert 1 <= drawn <= 1 << 31
    assert count == 1 + 1024 + 1
    assert fill(log, b"new") == 9
    log.abandon()
    target.unlink("MARK")
    assert recover(target).epoch == (drawn << COUNT_BITS) + 1 + 1024 + 2


def test_two_stores_from_one_backup_never_serve_an_epoch_in_common(journal: SimDisk) -> None:
    def served(now: float) -> list[int]:
        target = SimDisk()
        restore(journal, target, now=now)
        return [recover(target).epoch for _ in range(4)]

    first, second, later = served(2e9), served(2e9), served(2e9 + 6_000.0)
    assert not set(first) & set(second)
    counts = [[epoch % (1 << COUNT_BITS) for epoch in epochs] for epochs in (first, later)]
    assert counts[0][0] == (2_000_000_000 - 1_704_067_200) // 600 + 1
    assert max(counts[0]) < min(counts[1]), "what is restored later counts higher"


def test_a_store_that_was_restored_can_be_restored_again(journal: SimDisk) -> None:
    once, twice = SimDisk(), SimDisk()
    restore(journal, once, now=2e9)
    known = recover(once).epoch
    restore(once, twice, now=0.0)
    drawn, count = divmod(recover(twice).epoch, 1 << COUNT_BITS)
    assert drawn != known >> COUNT_BITS
    assert count == known % (1 << COUNT_BITS) + 1024 + 1


def test_backup_and_restore_refuse_a_folder_in_use_and_a_damaged_source(journal: SimDisk) -> None:
    for call in (backup, restore):
        with pytest.raises(ConfigError, match="expected an empty or missing folder"):
            call(journal, SimDisk({"notes.txt": b""}))
        with pytest.raises(LogDamaged, match="there is no journal here"):
            call(SimDisk(), SimDisk())
    _damage(journal, f"{4:020}.log", 20)
    for call in (backup, restore):
        with pytest.raises(LogDamaged):
            call(journal, SimDisk())


def test_a_backup_begins_again_when_the_writer_went_on(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    for item in range(3):
        fill(log, b"%d" % item)
        last = log.rotate()
        log.pump()
        publish_snapshot(disk, last, [b"%d" % n for n in range(item + 1)])
    fill(log, b"3")
    moved: list[bool] = []

    def move_on(call: str, name: str) -> None:
        if call == "link" and not moved:
            moved.append(True)
            retire(disk)

    disk.before = move_on
    target = SimDisk()
    backup(disk, target)
    assert moved
    assert recover_payloads(target) == [b"0", b"1", b"2", b"3"]
