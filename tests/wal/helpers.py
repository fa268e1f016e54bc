"""Small steps that many tests of the log take."""

from __future__ import annotations

from holdfast.wal import Files, Log, Options, Recovery
from tests.wal.world import SMALL


def payloads(files: Files, options: Options = SMALL) -> list[bytes]:
    """What an open would replay after the newest snapshot; the lock is given back."""
    recovery = Recovery.begin(files, options)
    try:
        return [frame.payload for frame in recovery.replay()]
    finally:
        recovery.close()


def state(log: Log) -> str:
    """The state of a log, asked anew."""
    return log.health.state


def fill(log: Log, *items: bytes) -> int:
    """Append and make durable, in a log without a thread."""
    number = log.append(items)
    log.pump()
    return number


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
