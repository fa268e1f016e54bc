import threading

import pytest

from holdfast.errors import OutcomeUnknown
from holdfast.wal import LogClosed, LogFailed, LogUnknown, Options, OsFiles, OwnerLost, Recovery
from holdfast.wal.layout import Mark, MarkFile
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import Time, fill, payloads, state


def test_after_a_failed_sync_nothing_is_acknowledged_accepted_or_synced_again(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    told: list[int] = []
    failures: list[BaseException] = []
    log.listen(told.append, failures.append)
    number = log.append([b"lost"])
    disk.fail_after(1, 5, "sync")
    log.pump()
    disk.before = None
    before = list(disk.trace)
    assert [call for call, name in before if "sync" in call and name.endswith(".log")] == ["sync!"]
    with pytest.raises(LogFailed, match="Input/output error"):
        log.append([b"more"])
    with pytest.raises(LogFailed):
        log.rotate()
    with pytest.raises(LogUnknown, match="frame 1") as unknown:
        log.wait_synced(number)
    assert isinstance(unknown.value, OutcomeUnknown)
    assert log.pump() is False
    assert (told, len(failures), state(log)) == ([], 1, "failed")
    log.listen(told.append, failures.append)  # one who comes late is told too
    log.listen(told.append)
    assert len(failures) == 2
    assert disk.trace == before
    with pytest.raises(LogFailed):
        log.close()
    assert not [call for call, _ in disk.trace[len(before) :] if call in ("sync", "write")]


def test_threads_that_wait_are_told_when_the_disk_fails(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    number = log.append([b"lost"])
    errors: list[Exception] = []

    def wait() -> None:
        try:
            log.wait_synced(number)
        except LogUnknown as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not log._waiters:
        pass
    disk.fail_after(1, 5, "sync")
    log.pump()
    thread.join()
    assert len(errors) == 1


def test_the_writer_thread_ends_with_the_failure(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, threaded=True)
    failed = threading.Event()
    log.listen(None, lambda error: failed.set())
    disk.fail_after(1, 28, "sync")  # a full disk seen by a sync is a failure like any other
    log.append([b"lost"])
    assert failed.wait(60)
    assert log._thread is not None
    log._thread.join(60)
    assert not log._thread.is_alive()


def test_a_mistake_in_a_listener_is_not_hidden(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)

    def wrong(number: int) -> None:
        raise ZeroDivisionError

    log.listen(wrong)
    log.append([b"a"])
    with pytest.raises(ZeroDivisionError):
        log.pump()
    assert state(log) == "failed"


def test_a_failure_while_closing_is_raised_and_everything_is_let_go(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"a")
    disk.fail_after(1, 5, "truncate")
    with pytest.raises(LogFailed):
        log.close()
    disk.before = None
    assert disk._open == {}
    assert payloads(disk) == [b"a"]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_descriptor_that_does_not_close_keeps_nothing_else_open(disk: SimDisk, open_: Open, call: int) -> None:
    log = open_(disk)
    fill(log, b"a")
    disk.fail_after(call, 5, "close")
    log.abandon()
    disk.before = None
    assert disk._open == {}


def test_a_clean_stop_writes_what_waits(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([b"still waiting"])
    log.close()
    log.close()
    assert payloads(disk) == [b"still waiting"]
    assert state(log) == "closed"


def test_a_closed_log_refuses_work(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([b"never written"])
    log.abandon()
    with pytest.raises(LogClosed):
        log.append([b"a"])
    with pytest.raises(LogClosed):
        log.rotate()
    with pytest.raises(LogClosed):
        log.wait_synced(1)
    log.abandon()


def test_one_who_waits_is_told_that_the_log_was_abandoned(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([b"never written"])
    errors: list[Exception] = []

    def wait() -> None:
        try:
            log.wait_synced(1)
        except LogClosed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not log._waiters:
        pass
    log.abandon()
    thread.join()
    assert len(errors) == 1


@pytest.mark.parametrize("call", ["write", "truncate"])
def test_a_write_or_an_undo_that_fails_is_a_failure(disk: SimDisk, open_: Open, call: str) -> None:
    log = open_(disk)
    fill(log, b"before")
    seen = []

    def fail(what: str, name: str) -> None:
        """The disk is full; with "truncate", the way back is broken too. With "write" it is not full but broken."""
        if what in ("write", call) and name.endswith(".log"):
            seen.append(what)
            raise OSError(28 if (what, call) == ("write", "truncate") else 5, "refused")

    disk.before = fail
    number = log.append([b"lost"])
    log.pump()
    disk.before = None
    assert seen == (["write"] if call == "write" else ["write", "truncate"])
    with pytest.raises(LogUnknown):
        log.wait_synced(number)


def test_mark_is_synced_once_its_time_has_come(disk: SimDisk) -> None:
    clock = Time()
    log = Recovery.begin(disk, Options(segment_bytes=4096)).serve(threaded=False, monotonic=clock)
    fill(log, b"a")
    assert ("sync", "MARK") not in disk.trace[-4:]
    clock.now = 0.05
    log.pump()
    assert disk.trace[-1] != ("sync", "MARK")
    clock.now = 0.11
    log.pump()
    assert disk.trace[-1] == ("sync", "MARK")
    count = len(disk.trace)
    clock.now = 1.0
    log.pump()
    assert len(disk.trace) == count  # nothing changed, nothing to sync
    log.abandon()


def test_paranoid_syncs_mark_before_it_acknowledges(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, paranoid=True))
    seen: list[list[tuple[str, str]]] = []
    log.listen(lambda number: seen.append(disk.trace[-2:]))
    fill(log, b"a")
    assert seen == [[("write", "MARK"), ("sync", "MARK")]]


def test_an_idle_writer_thread_syncs_mark_by_itself(folder: OsFiles) -> None:
    synced = threading.Event()
    real = folder.sync
    log = Recovery.begin(folder, Options(segment_bytes=4096, mark_seconds=0.001)).serve()
    log.wait_synced(log.append([b"a"]))

    def watch(handle: int) -> None:
        real(handle)
        synced.set()

    folder.sync = watch
    log.wait_synced(log.append([b"b"]))
    synced.clear()
    assert synced.wait(10) or not log._writer.mark_dirty
    log.close()


def test_a_writer_that_finds_a_later_epoch_stops(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"mine")
    other = MarkFile(disk)
    other.settle(Mark(1, log.epoch + 1))
    log.rotate()
    log.pump()
    assert state(log) == "failed"
    assert isinstance(log._failure, OwnerLost)


def test_a_writer_whose_lock_file_was_replaced_stops(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"mine")
    disk.unlink("LOCK")
    log.rotate()
    log.pump()
    assert isinstance(log._failure, OwnerLost)


def test_a_segment_is_never_written_over_another_file(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    fill(log, b"a")
    disk.close(disk.create("00000000000000000003.log"))
    log.rotate()
    log.pump()
    assert state(log) == "failed"
    assert "in the way" in log.health.problem
