"""T2 and T3 of the test plan: the real code over a simulated disk that loses power at every call."""

import random

import pytest

from holdfast.wal import Recovery, publish_snapshot, retire, sealed_segments
from tests.features import feature
from tests.wal.apart import run_apart
from tests.wal.crashes import Crashes
from tests.wal.disk import SimDisk
from tests.wal.world import SMALL, Model, recover, still


@feature("B48", "B57", "BW8")
def test_no_crash_loses_or_alters_what_was_acknowledged() -> None:
    tallies = run_apart(
        "tests.wal.crashes", ("--seed", "1", "--states", "10000"), ("--seed", "5001", "--states", "10000")
    )
    assert [violation for tally in tallies for violation in tally["violations"]] == []
    assert sum(tally["states"] for tally in tallies) >= 20_000


@feature("B48")
def test_a_crash_inside_recovery_leads_to_the_same_state() -> None:
    calls = [("--seed", str(seed), "--states", "200", "--cuts", "2", "--depth", "3") for seed in (1, 101)]
    tallies = run_apart("tests.wal.crashes", *calls)
    assert [violation for tally in tallies for violation in tally["violations"]] == []
    assert sum(tally["nested"] for tally in tallies) >= 2_000


def test_a_short_run_in_this_process_finds_nothing_either() -> None:
    assert Crashes(seed=77, states=300, depth=1, cuts=1).run().violations == []


@pytest.mark.soak
def test_a_million_crash_states() -> None:
    calls = [("--seed", str(seed * 100_000), "--states", "125000") for seed in range(1, 9)]
    tallies = run_apart("tests.wal.crashes", *calls)
    assert [violation for tally in tallies for violation in tally["violations"]] == []


def _with_sealed_segments(count: int) -> tuple[SimDisk, Model]:
    """A journal on a simulated disk, closed, with `count` sealed segments of three payloads each."""
    disk, model = SimDisk(), Model()
    log = Recovery.begin(disk, SMALL).serve(threaded=False, monotonic=still)
    log.listen(model.synced)
    for segment in range(count):
        for item in range(3):
            payload = f"{segment}.{item}".encode()
            model.accepted(payload, log.append([payload]))
            log.pump()
        log.rotate()
        log.pump()
    log.close()
    return disk, model


def _payloads_up_to(model: Model, number: int) -> list[bytes]:
    return [payload for payload, known in zip(model.payloads, model.numbers, strict=True) if known <= number]


def _die_before_the_folder_is_synced(disk: SimDisk, model: Model, number: int) -> None:
    def refuse(call: str, name: str) -> None:
        if call == "sync_folder":
            raise KeyboardInterrupt

    disk.before = refuse
    with pytest.raises(KeyboardInterrupt):
        publish_snapshot(disk, number, _payloads_up_to(model, number))
    disk.before = None


@feature("BW12")
def test_nothing_is_removed_before_the_names_of_both_snapshots_are_durable() -> None:
    disk, model = _with_sealed_segments(3)
    for span in sealed_segments(disk)[:2]:
        _die_before_the_folder_is_synced(disk, model, span.last)
    draw, tried = random.Random(7), 0

    def cut(call: str, name: str) -> None:
        nonlocal tried
        for _ in range(100):
            tried += 1
            model.check(recover(disk.cut(draw)))

    disk.after = cut
    removed = retire(disk)
    assert "00000000000000000001.log" in removed
    assert tried >= 300


@feature("BW12")
def test_the_older_snapshot_alone_is_enough_after_old_segments_are_gone() -> None:
    disk, model = _with_sealed_segments(4)
    for span in sealed_segments(disk)[1:3]:
        publish_snapshot(disk, span.last, _payloads_up_to(model, span.last))
    assert len(retire(disk)) == 2
    newest = max(name for name in disk.contents() if name.endswith(".snap"))
    damaged = disk.contents()
    damaged[newest] = damaged[newest][:-1] + b"?"
    found = recover(SimDisk(damaged))
    assert list(found.payloads) == model.payloads
