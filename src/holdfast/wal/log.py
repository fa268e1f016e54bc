"""The log as its owner sees it: append from anywhere, be told when it is durable.

How a frame travels. `append` (any thread, the event loop too) decides number and segment under a short lock, puts the
payload into a list and returns. One writer thread swaps that list for an empty one, writes all of it, syncs, and says
so; what arrived meanwhile is the next group. Nobody waits for a timer, and the lock is never held during I/O.

Because place and number are given in `append`, what it has accepted will be durable, or the log is FAILED; there is no
third case. The owner may therefore act on accepted facts in memory at once, as long as every answer waits for the sync.

States: open → full (allocation ahead failed; heals) → open; any → failed (final) ; any → closed (final).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from holdfast.errors import TooLarge
from holdfast.wal import segment
from holdfast.wal.bell import Bell
from holdfast.wal.errors import LogBusy, LogClosed, LogFailed, LogFull, LogUnknown, WalError
from holdfast.wal.frame import frame_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.wal.files import Files
    from holdfast.wal.writer import Options, Writer

_ROTATE = None  # stands for "seal and go on in the next segment" between payloads


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the log is. `waiting` frames are accepted and not yet durable; `spares` segments are allocated ahead."""

    state: Literal["open", "full", "read_only", "failed", "closed"]
    accepted: int
    synced: int
    waiting: int
    spares: int
    problem: str = ""


class _Waiter:
    """A thread that waits for a number."""

    __slots__ = ("gate", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.gate = threading.Lock()
        self.gate.acquire()


class Log:
    """An open log. Made by `Recovery.serve`."""

    def __init__(
        self,
        files: Files,
        writer: Writer,
        options: Options,
        *,
        threaded: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files, self._writer, self._options, self._monotonic = files, writer, options, monotonic
        self._mutex = threading.Lock()
        self._idle = False
        self._pending: list[bytes | None] = []
        self._waiters: list[_Waiter] = []
        self._number = self._synced = writer.number
        self._plan_offset = writer.offset
        self._planned_rotations = 0
        #: How many spare segments there were when the rotation that is under way began: it takes one, and is still planned.
        self._turning: int | None = None
        self._capacity, self._limit = options.capacity, options.payload_limit
        self._full = False
        self._failure: BaseException | None = None
        self._closed = False
        self._on_synced: Callable[[int], None] | None = None
        self._on_failed: Callable[[BaseException], None] | None = None
        self._mark_synced_at = self._tried_at = monotonic()
        self._tend()
        self._bell = Bell()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="holdfast-journal", daemon=True)
            self._thread.start()

    # -------------------------------------------------------------------------------------------------- what it knows

    @property
    def epoch(self) -> int:
        """The store epoch of this opening; higher than any before it."""
        return self._writer.epoch

    @property
    def synced(self) -> int:
        """The last number that is durable."""
        return self._synced

    @property
    def accepted(self) -> int:
        """The last number given out."""
        return self._number

    @property
    def health(self) -> Health:
        """A consistent picture of the state, for metrics and health checks."""
        with self._mutex:
            spares = self._spares_left()
            state: Literal["open", "full", "read_only", "failed", "closed"] = "open"
            if self._closed:
                state = "closed"
            elif self._failure is not None:
                state = "failed"
            elif self._full:
                state = "full" if spares > 0 else "read_only"
            return Health(
                state=state,
                accepted=self._number,
                synced=self._synced,
                waiting=self._number - self._synced,
                spares=spares,
                problem=str(self._failure or self._writer.spares.problem),
            )

    def listen(
        self, on_synced: Callable[[int], None] | None, on_failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Be told the newest durable number after each sync, or the error that ended the log.

        Both are called from the writer thread, must be quick and must not raise; an asyncio owner passes a
        `loop.call_soon_threadsafe`. A failure that has already happened is told at once.
        """
        with self._mutex:
            self._on_synced, self._on_failed = on_synced, on_failed
            failure = self._failure
        if failure is not None and on_failed is not None:
            on_failed(failure)

    # ------------------------------------------------------------------------------------------------------ appending

    @property
    def payload_limit(self) -> int:
        """The largest payload that `append` takes, in bytes."""
        return self._limit

    def admit(self, size: int, *, essential: bool = False) -> None:
        """Raise what `append` of a payload of up to `size` bytes would raise now; accept nothing.

        For an owner that has to know before it makes the payload. What was admitted may be appended with `admitted`.
        """
        size = self._size(size)
        with self._mutex:
            self._assert_usable()
            self._assert_room(int(self._plan_offset + size > self._capacity), essential)

    def append(self, payloads: Sequence[bytes], *, essential: bool = False, admitted: bool = False) -> int:
        """Accept payloads as consecutive frames, each atomic on its own; return the number of the last one.

        All or nothing. Durable when `synced` reaches the number. `essential` frames may use the reserve of a full disk.
        Raises LogFull, LogBusy (both: try again), TooLarge, LogFailed, LogClosed; then nothing was accepted. With `admitted`
        there is no LogFull and no LogBusy: if the disk has no room for such a frame when its turn comes, the log is FAILED.
        """
        sizes = [self._size(len(payload)) for payload in payloads]
        with self._mutex:
            self._assert_usable()
            offset, rotations, items = self._plan_offset, 0, list[bytes | None]()
            for size, payload in zip(sizes, payloads, strict=True):
                if offset + size > self._capacity:
                    rotations += 1
                    items.append(_ROTATE)
                    offset = segment.SIZE
                items.append(payload)
                offset += size
            if not admitted:
                self._assert_room(rotations, essential)
            self._planned_rotations += rotations
            self._plan_offset = offset
            number, wake = self._accept(items)
        if wake:
            self._bell.ring()
        return number

    def rotate(self) -> int:
        """End the present segment, after all frames accepted so far; return its last number.

        When `synced` reaches that number the segment is sealed and has a successor: a snapshot may stand there. Takes
        part in the reserve, since it is what comes before freeing space. Raises as `append`.
        """
        with self._mutex:
            self._assert_usable()
            if self._plan_offset == segment.SIZE:
                return self._number
            self._assert_room(1, essential=True)
            self._planned_rotations += 1
            self._plan_offset = segment.SIZE
            number, wake = self._accept([_ROTATE])
        if wake:
            self._bell.ring()
        return number

    def _size(self, payload_size: int) -> int:
        if payload_size > self._limit:
            raise TooLarge("a journal frame", payload_size, self._limit, "bytes", "Cut the batch into smaller ones.")
        return frame_size(payload_size)

    def _assert_usable(self) -> None:
        if self._closed:
            raise LogClosed("the journal was closed, or belongs to the parent process; open it in this process first.")
        if self._failure is not None:
            raise LogFailed(self._failure)

    def _spares_left(self) -> int:
        ready = len(self._writer.spares) if self._turning is None else self._turning
        return ready - self._planned_rotations

    def _assert_room(self, rotations: int, essential: bool) -> None:
        """Refuse what needs more segments than may be promised, and on a full disk all that is not essential.

        Also what would still fit: the room that is left is for what runs, and the state says what is taken and what is not.
        """
        short = rotations > max(0, self._spares_left())
        if self._full and (short or not essential):
            raise LogFull(essential=essential, cause=self._writer.spares.problem)
        if short:
            raise LogBusy(self._number - self._synced)

    def _accept(self, items: list[bytes | None]) -> tuple[int, bool]:
        """Return the last number, and whether the writer has to be woken: outside the mutex, which is what it takes first."""
        self._pending += items
        self._number += len(items)
        wake, self._idle = self._idle, False
        return self._number, wake

    def wait_synced(self, number: int, timeout: float | None = None) -> bool:
        """Block this thread until `number` is durable; False after `timeout` seconds. Raises LogUnknown on failure."""
        with self._mutex:
            if self._synced >= number:
                return True
            if self._failure is not None:
                raise LogUnknown(number, self._failure)
            if self._closed:
                raise LogClosed("the journal is closed; this number was never written.")
            waiter = _Waiter(number)
            self._waiters.append(waiter)
        if not waiter.gate.acquire(timeout=-1 if timeout is None else timeout):
            with self._mutex:
                self._waiters = [other for other in self._waiters if other is not waiter]
        if self._synced >= number:
            return True
        if self._failure is not None:
            raise LogUnknown(number, self._failure)
        if self._closed:
            raise LogClosed("the journal was closed before this number was written.")
        return False

    # -------------------------------------------------------------------------------------------------------- writing

    def pump(self) -> bool:
        """Write all that waits: per segment one write and one sync. False if nothing waited.

        Called by the writer thread, or by the owner of a log without one. A disk error makes the log FAILED.
        """
        with self._mutex:
            items, self._pending = self._pending, []
            self._idle = not items
        try:
            if items and self._failure is None:
                self._write(items)
            self._tend()
        except Exception as error:
            self._fail(error)
            if not isinstance(error, (OSError, WalError)):
                raise
        return bool(items)

    def _write(self, items: list[bytes | None]) -> None:
        group: list[bytes] = []
        for item in items:
            if item is not None:
                group.append(item)
                continue
            if group:
                self._write_group(group)
                group = []
            with self._mutex:
                self._turning = len(self._writer.spares)
            self._writer.rotate()
            with self._mutex:
                self._planned_rotations -= 1
                self._turning = None
            self._tell(self._writer.number)
        if group:
            self._write_group(group)

    def _write_group(self, group: list[bytes]) -> None:
        if not self._writer.write(group):
            # The group sits in a spare segment now, with more room than was planned for. The plan stays as it is; it only
            # turns to the next segment earlier than it must.
            self._full = True
            self._tried_at = self._monotonic()
        self._tell(self._writer.number)

    def _tell(self, number: int) -> None:
        """Acknowledge: everything up to `number` is durable."""
        with self._mutex:
            self._synced = number
            if self._waiters:
                self._release(number)
            call = self._on_synced
        if call is not None:
            call(number)

    def _release(self, number: int) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.number <= number:
                waiter.gate.release()
            else:
                self._waiters.append(waiter)

    def _fail(self, error: BaseException) -> None:
        """Enter the state FAILED; only the first error counts."""
        with self._mutex:
            first, self._failure = self._failure is None, self._failure or error
            self._pending = []
            self._release(self._number)
            call = self._on_failed
        if call is not None and first:
            call(error)

    def _tend(self) -> None:
        """What is due besides writing: evidence onto the disk, segments ahead."""
        if self._failure is not None:
            return
        now = self._monotonic()
        if self._writer.mark_dirty and now - self._mark_synced_at >= self._options.mark_seconds:
            self._writer.sync_mark()
            self._mark_synced_at = now
        if self._full and now - self._tried_at < self._options.retry_seconds:
            return
        spares = self._writer.spares
        while spares.missing > 0:
            if not spares.prepare():
                self._full, self._tried_at = True, now
                return
        self._full = False

    def _run(self) -> None:
        while not self._closed and self._failure is None:
            if not self.pump():
                self._bell.wait(self._nap())

    def _nap(self) -> float | None:
        """How long an idle writer may sleep, in seconds; None: until woken."""
        if self._writer.mark_dirty:
            return self._options.mark_seconds
        return self._options.retry_seconds if self._full else None

    # -------------------------------------------------------------------------------------------------------- closing

    def close(self) -> None:
        """Write what waits, seal, sync, let the lock go. A failed log is only let go. Harmless when repeated."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._bell.ring()
        if self._thread is not None:
            self._thread.join()
        try:
            self.pump()
            if self._failure is None:
                self._writer.finish()
        except OSError as error:
            self._fail(error)
        finally:
            self._let_go()
        if self._failure is not None:
            raise LogFailed(self._failure)

    def abandon(self) -> None:
        """Let go without writing anything, as a crash would: for a failed log that is to be opened again."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._bell.ring()
        if self._thread is not None:
            self._thread.join()
        self._let_go()

    def _let_go(self) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self._fail(error)
        self._bell.close()
        with self._mutex:
            self._release(self._number)

    def disown(self) -> None:
        """In a forked child: this log is the parent's. The mutex is a new one, since a thread that is gone may hold it."""
        self._mutex = threading.Lock()
        self._closed = True
