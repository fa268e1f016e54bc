"""A call of the system fails: each one in turn, with each error, once or from then on. `python -m tests.wal.faults`.

The workload does everything that a journal does. After the fault the process looks at what it was told, lets go, and
opens the journal again, both as it is seen and as a power cut may leave it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import random
import sys
from typing import TYPE_CHECKING

import msgspec

from holdfast.errors import HoldfastError
from holdfast.wal import Options, Recovery, publish_snapshot, retire, sealed_segments
from tests.wal.disk import SimDisk
from tests.wal.world import Broken, Model, Recovered, recover, still

if TYPE_CHECKING:
    from holdfast.wal import Log

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EFBIG, errno.EACCES, errno.EINTR, 0)
OPTIONS = Options(segment_bytes=4096, reserve_segments=1, mark_seconds=0.0)


class Outcome(msgspec.Struct):
    """What a search saw."""

    calls: int = 0
    runs: int = 0
    wrong: list[str] = []


class Work:
    """Everything that a journal does, step by step, until a step raises."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk, self.model = disk, Model()
        self.log: Log | None = None
        self.draw = random.Random(11)

    def open(self) -> None:
        recovery = Recovery.begin(self.disk, OPTIONS)
        payloads = (*recovery.records(), *(frame.payload for frame in recovery.replay()))
        log = recovery.serve(threaded=False, monotonic=still)
        self.model.check(Recovered(payloads, log.epoch))
        self.model.rest(Recovered(payloads, log.epoch))
        self.log = log
        self.model.epoch = log.epoch
        log.listen(self.model.synced)

    def write(self, count: int) -> None:
        assert self.log is not None
        for _ in range(count):
            payload = self.draw.randbytes(self.draw.randrange(500))
            self.model.accepted(payload, self.log.append([payload]))
            self.pump()

    def pump(self) -> None:
        """Write what waits; raises if that failed, as it would to a caller that waits."""
        assert self.log is not None
        self.log.pump()
        self.log.wait_synced(self.log.accepted, timeout=0)

    def fold(self) -> None:
        number = sealed_segments(self.disk)[-1].last
        count = sum(1 for known in self.model.numbers if known <= number)
        publish_snapshot(self.disk, number, self.model.payloads[:count])

    def steps(self) -> None:
        self.open()
        for _ in range(3):
            self.write(3)
            self.turn()
            self.fold()
            retire(self.disk)
        self.write(10)
        self.close()
        self.open()
        self.write(2)

    def turn(self) -> None:
        assert self.log is not None
        self.log.rotate()
        self.pump()

    def close(self) -> None:
        assert self.log is not None
        log, self.log = self.log, None
        log.close()


def attempt(call: int, error: int, *, forever: bool, cuts: int = 2) -> tuple[bool, list[str]]:
    """Let call number `call` fail; whether it came to that, and what went wrong."""
    disk = SimDisk()
    if error:
        disk.fail_after(call, error, forever=forever)
    else:
        disk.short_write = call
    work = Work(disk)
    with contextlib.suppress(HoldfastError):
        work.steps()
    hit = any(name.endswith("!") for name, _ in disk.trace) or not error
    wrong = list(_second_syncs(disk.trace))
    if work.log is not None and work.log.health.state == "failed":
        wrong += _goes_on(work)
    disk.before, disk.short_write = None, 0
    if work.log is not None:
        work.log.abandon()
    draw = random.Random(call)
    for left in (disk.killed(), *(disk.cut(draw) for _ in range(cuts))):
        try:
            work.model.check(recover(left, OPTIONS))
        except (Broken, HoldfastError) as problem:
            wrong.append(f"{type(problem).__name__}: {problem}")
    return hit, wrong


def _goes_on(work: Work) -> list[str]:
    """A failed log must accept and acknowledge nothing."""
    before, calls = work.model.acknowledged, work.disk.count
    assert work.log is not None
    try:
        work.log.append([b"after the failure"])
    except HoldfastError:
        work.log.pump()
        same = before == work.model.acknowledged and calls == work.disk.count
        return [] if same else ["a failed log went on working"]
    return ["a failed log accepted a payload"]


def _second_syncs(trace: list[tuple[str, str]]) -> list[str]:
    """Syncs of a file after one of it has failed, before it was opened anew."""
    failed: set[str] = set()
    wrong = []
    for call, name in trace:
        if call == "sync!":
            failed.add(name)
        elif call in ("open", "create", "rename"):
            failed.discard(name)
        elif call == "sync" and name in failed:
            wrong.append(f"{name} was synced again after its sync had failed")
    return wrong


def search(*, step: int, start: int) -> Outcome:
    """Every `step`-th call from `start` on, all errors, once and for ever."""
    outcome = Outcome()
    for call in itertools.count(1 + start, step):
        reached = False
        for error, forever in itertools.product(ERRORS, (False, True)):
            hit, wrong = attempt(call, error, forever=forever)
            reached = reached or (hit and error != 0)
            outcome.runs += 1
            outcome.wrong += [f"call {call}, errno {error}, {'for ever' if forever else 'once'}: {w}" for w in wrong]
        outcome.calls = call
        if not reached:
            return outcome
    raise AssertionError("not reached")


def main() -> int:
    """Run one search and print what it saw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    options = parser.parse_args()
    outcome = search(step=options.step, start=options.start)
    outcome.wrong = outcome.wrong[:20]
    print(msgspec.json.encode(outcome).decode())
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
