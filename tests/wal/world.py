"""A journal's life on a simulated disk, beside a plain model of what must be true after any crash.

The model is a list: every payload ever accepted, in order. The rule: whatever happens, what is recovered is a prefix of that
list which holds at least everything that was acknowledged. A snapshot of the first n payloads is those n payloads, so
the same rule covers snapshots.
"""

from __future__ import annotations

import contextlib
import errno
import random
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.wal import Log, Options, Recovery, publish_snapshot, retire, sealed_segments
from holdfast.wal.errors import WalError
from tests.wal.disk import Killed, SimDisk

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL: Final = Options(segment_bytes=4096, reserve_segments=0, mark_seconds=0.0)


class Broken(AssertionError):
    """A promise was not kept."""


class Recovered(msgspec.Struct, frozen=True):
    """What an open found."""

    payloads: tuple[bytes, ...]
    epoch: int


def recover(disk: SimDisk, options: Options = SMALL, *, serve: bool = True) -> Recovered:
    """Open the journal on `disk` as an owner would, read everything, start serving, then let go as a crash would."""
    recovery = Recovery.begin(disk, options)
    payloads = [*recovery.records(), *(frame.payload for frame in recovery.replay())]
    if not serve:
        recovery.close()
        return Recovered(tuple(payloads), 0)
    log = recovery.serve(threaded=False, monotonic=still)
    log.abandon()
    return Recovered(tuple(payloads), log.epoch)


def still() -> float:
    """A clock that stands."""
    return 0.0


class Model:
    """What was accepted and what was acknowledged, over all lives of one journal."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.numbers: list[int] = []  # sequence number of each payload
        self.acknowledged = 0  # payloads
        self.epoch = 0  # highest that was served

    def accepted(self, payload: bytes, number: int) -> None:
        self.payloads.append(payload)
        self.numbers.append(number)

    def synced(self, number: int) -> None:
        while self.acknowledged < len(self.numbers) and self.numbers[self.acknowledged] <= number:
            self.acknowledged += 1

    def check(self, found: Recovered) -> None:
        """Raise Broken unless `found` is one of the states that are allowed now."""
        count = len(found.payloads)
        if count < self.acknowledged:
            raise Broken(f"lost: {self.acknowledged} payloads were acknowledged, {count} were recovered")
        if list(found.payloads) != self.payloads[:count]:
            raise Broken(
                f"altered: {count} payloads were recovered that are no prefix of the {len(self.payloads)} accepted"
            )
        if found.epoch and found.epoch <= self.epoch:
            raise Broken(f"epoch {found.epoch} was served again; {self.epoch} was reached before")

    def rest(self, found: Recovered) -> None:
        """Go on from what was recovered: the rest was never promised."""
        count = len(found.payloads)
        del self.payloads[count:], self.numbers[count:]
        self.acknowledged = count


class Life:
    """Draws what happens to a journal and does it. Each step is an ordinary call of the public interface."""

    def __init__(self, draw: random.Random, disk: SimDisk | None = None, options: Options = SMALL) -> None:
        # How often each step is taken; lives differ in it, so that rare sequences occur in some of them.
        self.weights = draw.choice(
            (
                (24, 3, 3, 1, 2, 1, 1, 3, 2),
                (6, 3, 4, 4, 5, 1, 1, 1, 1),
                (8, 2, 1, 0, 1, 2, 2, 9, 5),
                (4, 2, 1, 8, 8, 0, 0, 0, 0),
            )
        )
        self.draw, self.options = draw, options
        self.disk = disk or SimDisk()
        self.model = Model()
        self.log: Log | None = None

    def run(self, steps: int) -> None:
        """`steps` random steps; the log is open in most of them."""
        for _ in range(steps):
            if self.log is None:
                self.draw.choices((self.open, self.die, self.fail), (8, 1, 1))[0]()
            else:
                self.draw.choices((*self._steps(), self.die, self.fail), self.weights)[0]()

    def _steps(self) -> tuple[Callable[[], None], ...]:
        return (self.append, self.rotate, self.snapshot, self.interrupted_snapshot, self.retire, self.close, self.kill)

    def _any_step(self) -> None:
        self.open() if self.log is None else self.draw.choice(self._steps())()

    def die(self) -> None:
        """The process is killed in the middle of a step; the page cache lives on."""
        self.disk.die_after(self.draw.randrange(1, self.draw.choice((4, 12, 40))))
        with contextlib.suppress(Killed):
            self._any_step()
        self.disk.revive()
        self.log = None

    def fail(self) -> None:
        """A call fails in the middle of a step; the process opens the journal again from its files."""
        error = self.draw.choice((errno.EIO, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE))
        only = self.draw.choice(("", "sync", "sync", "write", "sync_folder", "rename"))
        self.disk.fail_after(self.draw.randrange(1, 12), error, only, forever=self.draw.random() < 0.3)
        with contextlib.suppress(WalError):
            self._any_step()
        self.disk.before = None
        if self.log is not None:
            self.log.abandon()
            self.log = None

    def open(self) -> None:
        recovery = Recovery.begin(self.disk, self.options)
        payloads = [*recovery.records(), *(frame.payload for frame in recovery.replay())]
        log = recovery.serve(threaded=False, monotonic=still)
        found = Recovered(tuple(payloads), log.epoch)
        self.model.check(found)
        self.model.rest(found)
        # What was read but not acknowledged is durable now, and may be relied on.
        self.model.epoch = log.epoch
        self.log = log
        log.listen(self.model.synced)

    def append(self) -> None:
        assert self.log is not None
        for _ in range(self.draw.choice((1, 1, 1, 2, 5))):
            payload = self._payload()
            self.model.accepted(payload, self._call(partial(self.log.append, [payload])))
        self.log.pump()

    def _payload(self) -> bytes:
        size = self.draw.choice((0, 1, 8, 30, 100, 100, 300, 700, 1500))
        return len(self.model.payloads).to_bytes(4, "big") + self.draw.randbytes(size)

    def _call(self, call: Callable[[], int]) -> int:
        """Make room in the plan first if need be: a log without a thread writes only when told."""
        try:
            return call()
        except WalError:
            assert self.log is not None
            self.log.pump()
            return call()

    def rotate(self) -> None:
        assert self.log is not None
        self._call(self.log.rotate)
        self.log.pump()

    def snapshot(self) -> None:
        """Publish at one of the newest sealed ends, as the folding process would: from files alone."""
        spans = sealed_segments(self.disk)
        if spans:
            number = self.draw.choice(spans[-2:]).last
            count = sum(1 for known in self.model.numbers if known <= number)
            publish_snapshot(self.disk, number, list(self.model.payloads[:count]))

    def interrupted_snapshot(self) -> None:
        """The folding process dies between rename and folder sync."""
        if self.disk.before is not None:
            return
        self.disk.before = _fail_folder_sync
        with contextlib.suppress(WalError):
            self.snapshot()
        self.disk.before = None

    def retire(self) -> None:
        retire(self.disk)

    def close(self) -> None:
        assert self.log is not None
        self.log.close()
        self.log = None

    def kill(self) -> None:
        assert self.log is not None
        self.log.abandon()
        self.log = None


def _fail_folder_sync(call: str, name: str) -> None:
    if call == "sync_folder":
        raise OSError(errno.EIO, "the process was killed here")
