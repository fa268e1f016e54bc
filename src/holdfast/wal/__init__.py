"""The durable log: numbered frames of bytes that survive power loss, and snapshots that shorten the way back.

It knows bytes, not jobs. How it lies on disk, and what each crash leaves: FORMAT.md beside this file.

    recovery = Recovery.begin(OsFiles("data"))
    for frame in recovery.replay(): ...
    log = recovery.serve()
    number = log.append([b"..."])
    log.wait_synced(number)
"""

from __future__ import annotations

from holdfast.wal.backup import COUNT_BITS, BackedUp, backup, restore
from holdfast.wal.chain import Notice
from holdfast.wal.errors import (
    LogBusy,
    LogClosed,
    LogDamaged,
    LogFailed,
    LogFull,
    LogHeld,
    LogIO,
    LogUnknown,
    LossRefused,
    NewerFormat,
    NotReady,
    OwnerLost,
    SnapshotDamaged,
    UnsafeFolder,
    WalError,
)
from holdfast.wal.files import Files, OsFiles
from holdfast.wal.frame import Frame
from holdfast.wal.lock import Holder, read_holder
from holdfast.wal.log import Health, Log
from holdfast.wal.reader import salvage, scan
from holdfast.wal.recovery import Recovery, open_log
from holdfast.wal.repair import Repaired, repair
from holdfast.wal.retention import Retirement, SealedSegment, plan_retirement, retire, sealed_segments
from holdfast.wal.snapshot import SnapshotInfo, check_snapshot, publish_snapshot, read_snapshot
from holdfast.wal.verify import FileReport, Report, verify
from holdfast.wal.writer import Options

__all__ = [
    "COUNT_BITS",
    "BackedUp",
    "FileReport",
    "Files",
    "Frame",
    "Health",
    "Holder",
    "Log",
    "LogBusy",
    "LogClosed",
    "LogDamaged",
    "LogFailed",
    "LogFull",
    "LogHeld",
    "LogIO",
    "LogUnknown",
    "LossRefused",
    "NewerFormat",
    "NotReady",
    "Notice",
    "Options",
    "OsFiles",
    "OwnerLost",
    "Recovery",
    "Repaired",
    "Report",
    "Retirement",
    "SealedSegment",
    "SnapshotDamaged",
    "SnapshotInfo",
    "UnsafeFolder",
    "WalError",
    "backup",
    "check_snapshot",
    "open_log",
    "plan_retirement",
    "publish_snapshot",
    "read_holder",
    "read_snapshot",
    "repair",
    "restore",
    "retire",
    "salvage",
    "scan",
    "sealed_segments",
    "verify",
]
