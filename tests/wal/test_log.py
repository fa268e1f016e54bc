import asyncio
import os
import threading

import pytest

from holdfast.errors import ConfigError, OutcomeUnknown, StoreFull, StoreUnavailable, TooLarge
from holdfast.wal import LogBusy, LogClosed, LogFailed, LogUnknown, Options, OsFiles, OwnerLost, Recovery
from holdfast.wal.layout import Mark, MarkFile
from tests.features import feature
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import fill, payloads, state
from tests.wal.world import SMALL


@feature("B23", "B27")
def test_many_appends_share_one_sync_and_none_is_acknowledged_before_it(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    told: list[int] = []
    log.listen(told.append)
    last = 0
    for item in range(20):
        last = log.append([b"%d" % item])
    assert (log.accepted, log.synced, told) == (20, 0, [])
    before = len(disk.trace)
    log.pump()
    calls = [call for call in disk.trace[before:] if call[1].endswith(".log")]
    assert [call for call, _ in calls] == ["write", "sync"]
    assert (log.synced, told) == (last, [20])


@feature("B23")
def test_a_sync_comes_between_the_write_and_the_word_that_it_is_durable(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    seen: list[list[str]] = []
    before = len(disk.trace)
    log.listen(lambda number: seen.append([call for call, _ in disk.trace[before:]]))
    fill(log, b"payload")
    assert seen == [["write", "sync", "write"]]  # frame, sync, MARK


def test_payloads_of_one_call_get_consecutive_numbers_and_come_back_as_they_were(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    assert log.append([b"", b"one", bytes(range(256))]) == 3
    assert log.append([]) == 3
    log.close()
    assert payloads(disk) == [b"", b"one", bytes(range(256))]


@feature("B25", "B26")
def test_numbers_go_on_over_rotations_and_restarts(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    assert fill(log, b"a", b"b") == 2
    assert log.rotate() == 3  # the seal has a number
    log.pump()
    assert fill(log, b"c") == 4
    log.close()  # seals: 5
    log = open_(disk)
    assert fill(log, b"d") == 6
    assert log.epoch == 2
    log.close()
    assert payloads(disk) == [b"a", b"b", b"c", b"d"]


def test_rotating_an_empty_segment_changes_nothing(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    assert log.rotate() == 0
    fill(log, b"a")
    assert log.rotate() == 2
    assert log.rotate() == 2
    log.pump()
    assert log.synced == 2


def test_frames_fill_segments_without_crossing_their_borders(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=8, mark_seconds=0.0))
    items = [bytes([item]) * 1000 for item in range(20)]
    fill(log, *items)
    log.close()
    segments = [name for name in disk.contents() if name.endswith(".log")]
    assert len(segments) == 7
    assert all(len(disk.contents()[name]) <= 4096 for name in segments)
    assert payloads(disk) == items


def test_a_payload_larger_than_a_segment_is_refused_and_says_how_large_it_may_be(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    limit = SMALL.payload_limit
    with pytest.raises(TooLarge, match=f"at most {limit:,} bytes, found {limit + 1:,}"):
        log.append([b"fits", bytes(limit + 1)])
    assert log.accepted == 0
    fill(log, bytes(limit))
    log.close()
    assert payloads(disk) == [bytes(limit)]


def test_options_name_all_their_faults_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Options(segment_bytes=5000 - 1, reserve_segments=9, mark_seconds=-1)
    assert [fault.split(":")[0] for fault in refused.value.faults] == [
        "segment_bytes",
        "reserve_segments",
        "mark_seconds, retry_seconds",
    ]


def test_more_than_the_prepared_room_is_refused_until_the_disk_has_caught_up(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([bytes(2000)])
    log.append([bytes(2000)])
    with pytest.raises(LogBusy) as refused:
        log.append([bytes(2000), bytes(2000)])
    assert isinstance(refused.value, StoreUnavailable)
    assert refused.value.waiting == log.accepted
    log.pump()
    log.append([bytes(2000)])


def test_waiting_for_a_number_ends_with_its_sync(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, threaded=True)
    assert log.wait_synced(log.append([b"a"])) is True
    assert log.wait_synced(1, timeout=0) is True


def test_waiting_ends_with_the_time_limit_when_nobody_writes(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([b"a"])
    assert log.wait_synced(1, timeout=0.001) is False


def test_waiters_for_later_numbers_go_on_waiting(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    answers: dict[int, bool] = {}
    threads = [threading.Thread(target=lambda n=n: answers.update({n: log.wait_synced(n)})) for n in (1, 2)]
    for thread in threads:
        thread.start()
    while len(log._waiters) < 2:
        pass
    fill(log, b"a")
    threads[0].join()
    assert answers == {1: True}
    fill(log, b"b")
    threads[1].join()
    assert answers == {1: True, 2: True}


@feature("B27")
def test_many_threads_append_and_each_number_is_durable_when_its_wait_ends(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, Options(segment_bytes=64 * 1024), threaded=True)
    mine: dict[int, bytes] = {}

    def work(who: int) -> None:
        for item in range(50):
            payload = b"%d.%d" % (who, item)
            number = log.append([payload])
            assert log.wait_synced(number)
            assert log.synced >= number
            mine[number] = payload

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert payloads(folder) == [mine[number] for number in sorted(mine)]
    assert len(mine) == 400


async def test_an_event_loop_is_told_from_the_writer_thread(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, threaded=True)
    loop, durable = asyncio.get_running_loop(), asyncio.Event()

    def tell(number: int) -> None:
        loop.call_soon_threadsafe(durable.set)

    log.listen(tell)
    log.append([b"from the loop"])
    async with asyncio.timeout(10):
        await durable.wait()
    assert log.synced == 1


# ------------------------------------------------------------------------------------------------------------- failures


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
    assert failed.wait(10)
    assert log._thread is not None
    log._thread.join(10)
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


# ----------------------------------------------------------------------------------------------------- evidence, owners


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


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


# ------------------------------------------------------------------------------------------------------------ full disk


def test_a_full_disk_refuses_ordinary_appends_first_then_essential_ones_and_heals(open_: Open) -> None:
    clock = Time()
    disk = SimDisk(room=40_000)
    options = Options(segment_bytes=4096, reserve_segments=2, retry_seconds=1.0)
    log = Recovery.begin(disk, options).serve(threaded=False, monotonic=clock)
    accepted: list[bytes] = []

    def until_refused(essential: bool) -> int:
        for count in range(1000):
            payload = b"%d" % len(accepted) + bytes(900)
            try:
                log.append([payload], essential=essential)
            except StoreFull:
                return count
            accepted.append(payload)
            log.pump()
        raise AssertionError("never refused")

    assert until_refused(essential=False) > 0
    assert state(log) == "full"
    assert until_refused(essential=True) >= 8  # two segments of reserve
    assert state(log) == "read_only"
    with pytest.raises(StoreFull):
        log.append([bytes(900)])
    disk.room = 1 << 20
    log.pump()
    assert state(log) == "read_only"  # it looks again when its time has come
    clock.now = 1.5
    log.pump()
    assert state(log) == "open"
    log.append([b"last"])
    accepted.append(b"last")
    log.close()
    assert payloads(disk, options) == accepted


def test_an_idle_full_log_heals_without_being_asked(folder: OsFiles) -> None:
    refuse = threading.Event()
    refuse.set()
    real = os.posix_fallocate

    def allocate(handle: int, start: int, size: int) -> None:
        if refuse.is_set():
            raise OSError(28, "No space left on device")
        real(handle, start, size)

    files = OsFiles(folder.path)
    Recovery.begin(files, SMALL).serve(threaded=False).close()
    files = OsFiles(folder.path, allocate=allocate)
    refuse.clear()
    log = Recovery.begin(files, Options(segment_bytes=4096, retry_seconds=0.001)).serve()
    refuse.set()
    while state(log) == "open":
        log.wait_synced(log.append([bytes(3000)]))
    refuse.clear()
    for _ in range(10_000):
        if state(log) == "open":
            break
        threading.Event().wait(0.001)
    assert state(log) == "open"
    log.close()


def test_room_that_was_allocated_and_is_refused_is_taken_from_the_reserve(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    fill(log, b"before")
    disk.fail_after(1, 28, "write")
    assert fill(log, b"during") == 2
    assert log.synced == 2
    disk.before = None
    fill(log, b"after")
    log.close()
    assert payloads(disk) == [b"before", b"during", b"after"]


def test_a_disk_that_refuses_the_reserve_too_is_a_failure(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    fill(log, b"before")
    left = [0]

    def refuse(call: str, name: str) -> None:
        if call == "write" and name.endswith((".log", ".tmp")):
            left[0] += 1
            if left[0] != 2:  # the header of the next segment still goes through
                raise OSError(28, "No space left on device")

    disk.before = refuse
    number = log.append([b"during"])
    log.pump()
    disk.before = None
    with pytest.raises(LogUnknown):
        log.wait_synced(number)
    log.abandon()
    assert payloads(disk) == [b"before"]


def test_a_descriptor_shortage_stops_allocation_but_not_the_log(disk: SimDisk, open_: Open) -> None:
    log = open_(disk, Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0))
    disk.fail_after(1, 24, "create", forever=True)
    fill(log, bytes(3000))
    fill(log, bytes(3000))
    assert state(log) == "full"
    assert "open files" in log.health.problem
    disk.before = None


def test_short_writes_are_continued(disk: SimDisk, open_: Open) -> None:
    disk.short_write = 7
    log = open_(disk)
    fill(log, b"payload" * 20, b"more")
    log.close()
    assert payloads(disk) == [b"payload" * 20, b"more"]


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


# ------------------------------------------------------------------------------------------------------------ admission


def test_an_owner_may_ask_first_and_then_append_what_it_was_promised(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    assert log.payload_limit == SMALL.payload_limit
    with pytest.raises(TooLarge):
        log.admit(log.payload_limit + 1)
    log.admit(10)
    log.append([bytes(2000), bytes(2000)])  # takes the one segment that is ready
    with pytest.raises(LogBusy):
        log.admit(2500)
    log.admit(1500)
    log.append([bytes(2500)], admitted=True)  # the owner has already acted on it: it must go, or the log fails
    log.pump()
    assert log.synced == log.accepted
    log.close()
    with pytest.raises(LogClosed):
        log.admit(1)


def test_what_was_admitted_and_finds_no_room_ends_the_log(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log.append([bytes(2000), bytes(2000)])
    number = log.append([bytes(2500)], admitted=True)
    disk.room = 0
    log.pump()
    disk.room = 1 << 40
    with pytest.raises(LogUnknown):
        log.wait_synced(number)


def test_a_disowned_log_refuses_even_if_a_thread_that_is_gone_held_its_mutex(disk: SimDisk, open_: Open) -> None:
    log = open_(disk)
    log._mutex.acquire()
    log.disown()
    with pytest.raises(LogClosed):
        log.append([b"x"])
    assert state(log) == "closed"
    log._writer.close()
