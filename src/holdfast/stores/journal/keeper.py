"""Keeps the journal short: decides when a snapshot is due, has another process make it, removes what it replaces.

One thread. It sleeps until the log has grown enough, ends the present segment (S0 of wal/FORMAT.md §7), waits until that is
durable (S1), lets `fold_main` do S2 to S6 beside the live process, and removes old files (S7, S8). Nothing here is needed
for correctness: if no snapshot is ever made, the log just grows and recovery takes longer. So a failure is remembered for
the health report, and tried again after a pause that doubles up to a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.stores.journal.folding import Folded
from holdfast.wal import LogClosed, LogFailed, LogFull, retire
from holdfast.wal.snapshot import ROOM

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.stores.journal.options import JournalOptions
    from holdfast.stores.journal.recovery import Recovered
    from holdfast.wal import Files, Log

_PAUSE_MAX: Final = 60.0  # seconds between tries that fail
_LOOK: Final = -1  # instead of a base: look for the newest valid snapshot


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """How the snapshots are.

    last: number of the newest, 0 without one; jobs in it, its size in bytes, the seconds it took. made: how many since the
    start. since_bytes: how much the log has grown since. problem: why the last try failed; empty when it did not.
    """

    last: int = 0
    jobs: int = 0
    size: int = 0
    seconds: float = 0.0
    made: int = 0
    since_bytes: int = 0
    problem: str = ""


class SnapshotFailed(StoreUnavailable):
    """The process that makes snapshots ended without one."""


class Keeper:
    """Snapshots of one open log. `grown` may be called from any thread, one at a time (the store holds its lock)."""

    def __init__(
        self,
        log: Log,
        files: Files,
        options: JournalOptions,
        found: Recovered,
        fold: Callable[[Files, int, int], Folded] | None = None,
    ) -> None:
        """found: where the log begins. fold: makes the snapshot of a number over a base; by default in another process."""
        self._log, self._files, self._options = log, files, options
        self._fold = fold or self._fold_outside
        self._state = Snapshots(last=found.snapshot, jobs=found.snapshot_jobs, size=found.snapshot_bytes)
        self._base = found.snapshot
        #: The end of the last segment that was ended for a snapshot, and the size of the log there, until that is made.
        self._unmade: tuple[int, int] | None = None
        # Bytes of log, in all and at the last snapshot. Each is written by one side only, so neither needs a lock.
        self._grown, self._mark = found.log_bytes, 0
        self._due = self._threshold()
        self._child: subprocess.Popen[str] | None = None
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> Snapshots:
        """How the snapshots are."""
        return msgspec.structs.replace(self._state, since_bytes=self._grown - self._mark)

    def start(self) -> None:
        """Begin to watch, unless the options say that no snapshots are wanted."""
        if self._options.snapshot_interval > 0:
            self._thread = threading.Thread(target=self._run, name="holdfast-snapshots", daemon=True)
            self._thread.start()
            self.grown(0)

    def grown(self, size: int) -> None:
        """The log has grown by `size` bytes."""
        self._grown += size
        if self._grown >= self._due and not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """End the thread, and the process that may be at work: what it wrote so far is removed at the next start."""
        self._stop.set()
        self._wake.set()
        child = self._child
        if child is not None:
            child.terminate()
        if self._thread is not None:
            self._thread.join()

    def take(self) -> Folded:
        """Make a snapshot now, in this thread; remove what it replaces. Raises StoreError when that does not work out."""
        self._assert_room()
        number, grown = self._unmade = self._end_of_segment()
        self._log.wait_synced(number)
        folded = self._fold(self._files, number, self._base)
        retire(self._files, folded.retirement)
        self._base, self._mark, self._unmade = number, grown, None
        self._state = Snapshots(
            last=number, jobs=folded.jobs, size=folded.size, seconds=folded.seconds, made=self._state.made + 1
        )
        self._due = self._threshold()
        return folded

    def _assert_room(self) -> None:
        """A full disk: end no segment, which takes from the reserve, for a snapshot that will not fit."""
        if self._log.health.state == "open":
            return
        need, free = self._state.size + self._grown - self._mark, self._files.free()
        if free < need * ROOM:
            raise LogFull(essential=False, cause=f"a snapshot may need {need:,} bytes, {free:,} are free")

    def _end_of_segment(self) -> tuple[int, int]:
        """Where the snapshot is to stand, and the size of the log there. A full disk ends no segment for each new try.

        What is free says little under a quota: tries that fail would take the reserve from what runs.
        """
        if self._unmade is not None and self._log.health.state != "open":
            return self._unmade
        grown = self._grown
        return self._log.rotate(), grown

    def _threshold(self) -> int:
        """How large the log is, in all, when the next snapshot is due."""
        return self._mark + max(self._options.snapshot_bytes, self._state.size // 2)

    # --- the thread

    def _run(self) -> None:
        pause = self._options.snapshot_interval
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set() or self._grown < self._due:
                continue
            began = time.monotonic()
            try:
                self.take()
                pause = self._options.snapshot_interval
            except (LogClosed, LogFailed):
                return
            except (StoreError, OSError) as error:
                self._base = _LOOK  # it may be the damaged one
                self._state = msgspec.structs.replace(self._state, problem=str(error))
                pause = min(max(pause, 1.0) * 2, _PAUSE_MAX)
            self._stop.wait(max(0.0, began + pause - time.monotonic()))
            self.grown(0)

    # --- the process

    def _fold_outside(self, files: Files, number: int, base: int) -> Folded:
        home = str(Path(__file__).parents[3])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        # -P: a file of the working folder that is called like a library must not be imported.
        command = [sys.executable, "-P", "-m", "holdfast.stores.journal.fold_main", files.path, str(number), str(base)]
        child = self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C on the terminal is for us; `stop` ends the child
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        if self._stop.is_set():
            child.terminate()
        output, problem = child.communicate()
        self._child = None
        if child.returncode != 0:
            why = problem.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise SnapshotFailed(f"snapshot {number} was not made: {why[0]} The journal goes on without it.")
        return msgspec.json.decode(output.splitlines()[-1], type=Folded)
