"""What can go wrong with the log. All of it is a `StoreError`, so that stores above need not translate.

WalError
├── LogHeld          another process writes here
├── LogClosed        used after close, or in a forked child
├── LogFailed        the disk failed earlier; open again from the files
├── LogUnknown       the disk failed while a frame was on its way: durable or not, nobody knows
├── LogFull          no room; heals by itself
├── OwnerLost        another writer took the folder over
├── LogBusy          more waits for the disk than the log keeps ahead
├── LogIO            the system refused a call while files were opened or read
├── LogDamaged       something acknowledged is gone or altered
│   └── SnapshotDamaged
├── NewerFormat      written by a later Holdfast
├── UnsafeFolder     a network file system
├── NotReady         a snapshot was asked for at a number that is not the end of a sealed segment
└── LossRefused      repair would lose frames and was not told to accept that
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import OutcomeUnknown, StoreClosed, StoreCorrupt, StoreError, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence


class WalError(StoreError):
    """Every error of the durable log."""


class LogHeld(WalError, StoreUnavailable):
    """Another process owns the folder. `pid`, `boot` and `host` say which, as far as LOCK tells."""

    def __init__(self, folder: str, pid: int, boot: str, host: str) -> None:
        self.pid, self.boot, self.host = pid, boot, host
        super().__init__(
            f"{folder}: expected to become the one writer, but process {pid or '(unknown)'} on {host or '(unknown)'} "
            "holds LOCK. Talk to that process, or stop it first."
        )


class LogClosed(WalError, StoreClosed):
    """The log was closed, or belongs to the parent of this process."""


class LogFailed(WalError, StoreUnavailable):
    """An earlier disk error ended this log; nothing more is accepted."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"the journal stopped after a disk error ({cause}). Nothing of this call was stored. "
            "Check the disk, then start again: it recovers from its files."
        )


class LogUnknown(WalError, OutcomeUnknown):
    """A disk error came between writing and the confirmed sync of what is waited for."""

    def __init__(self, number: int, cause: BaseException) -> None:
        self.number = number
        super().__init__(
            f"frame {number}: expected a confirmed sync, but the disk failed ({cause}). It may or may not be stored. "
            "After the next start, ask by id, or repeat with the same id."
        )


class LogFull(WalError, StoreFull):
    """No room on the disk. Nothing was accepted; it may be tried again."""

    def __init__(self, *, essential: bool, cause: str) -> None:
        self.essential = essential
        what = "the reserve is used up, the journal can only be read" if essential else "only the reserve is left"
        super().__init__(f"disk full: {what} ({cause}). Free some space; the journal goes on by itself.")


class LogBusy(WalError, StoreUnavailable):
    """More is waiting for the disk than room was prepared for. Nothing was accepted."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting:,} frames wait for the disk. Wait until they are synced, then try again.")


class OwnerLost(WalError, StoreUnavailable):
    """Another writer took over this folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            f"{folder}: expected to be the one writer, but LOCK was replaced or a later epoch was served. "
            "Stop this process; the other one goes on."
        )


class LogIO(WalError, StoreUnavailable):
    """The system refused a call while opening or reading files."""

    def __init__(self, what: str, cause: OSError) -> None:
        self.errno = cause.errno
        super().__init__(f"{what}: expected the system to carry it out, found {cause}. Nothing was lost; try again.")


class LogDamaged(WalError, StoreCorrupt):
    """Damage at or below what was acknowledged, or a file that no crash can explain.

    `file` and `offset` (bytes) say where, `first`..`last` which frame numbers are concerned (0, 0: none),
    `candidates` what might help.
    """

    def __init__(
        self,
        file: str,
        offset: int,
        problem: str,
        *,
        first: int = 0,
        last: int = 0,
        witness: str = "",
        candidates: Sequence[str] = (),
    ) -> None:
        self.file, self.offset, self.problem = file, offset, problem
        self.first, self.last, self.witness = first, last, witness
        self.candidates = tuple(candidates)
        parts = [f"{file} at byte {offset}: {problem}."]
        if last:
            parts.append(f"Frames {first} to {last} are missing or damaged although {witness}.")
        parts.append("Nothing was changed. Put the file back from a copy, or run `holdfast journal repair`.")
        parts.extend(f"Candidate: {candidate}." for candidate in candidates)
        super().__init__(" ".join(parts))


class SnapshotDamaged(LogDamaged):
    """A snapshot does not validate."""


class NewerFormat(WalError):
    """The files were written by a later version."""

    def __init__(self, file: str, what: str, found: int, known: int) -> None:
        self.file, self.found, self.known = file, found, known
        super().__init__(
            f"{file}: expected {what} up to {known}, found {found}. "
            "A newer Holdfast wrote this; use that version, or restore an older backup."
        )


class UnsafeFolder(WalError):
    """The folder lies on a file system where locks and syncs can not be relied on."""

    def __init__(self, folder: str, kind: str) -> None:
        self.kind = kind
        super().__init__(
            f"{folder}: expected a local file system, found {kind}, where file locks and syncs can not be relied on. "
            "Move the data to a local disk, or set allow_network=True and accept the risk."
        )


class NotReady(WalError):
    """A snapshot can only stand at the end of a sealed segment that has a successor."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(
            f"snapshot at {number}: expected the last number of a sealed segment with a valid successor. "
            "Call rotate() and use the number it returns."
        )


class LossRefused(WalError):
    """Repair is possible, but frames would be lost. `lost` holds the ranges (first, last)."""

    def __init__(self, lost: Sequence[tuple[int, int]], cause: LogDamaged) -> None:
        self.lost, self.cause = tuple(lost), cause
        ranges = ", ".join(f"{first} to {last}" for first, last in lost)
        super().__init__(
            f"repair would lose frames {ranges} ({cause.file} at byte {cause.offset}: {cause.problem}). "
            "Look for a copy of that file first; to go on without them, accept the loss explicitly."
        )
