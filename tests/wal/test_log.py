import asyncio
import threading

import pytest

from holdfast.errors import ConfigError, StoreUnavailable, TooLarge
from holdfast.wal import LogBusy, LogClosed, LogUnknown, Options, OsFiles
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


@feature("B25", "B26", "BW8")
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
    async with asyncio.timeout(60):
        await durable.wait()
    assert log.synced == 1


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
