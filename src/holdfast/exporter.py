"""Brings what has ended from a store to a history elsewhere, as long as it runs: at least once, in order, in batches.

One batch is on its way at a time, and the next is read when the last was taken and acknowledged: so a history that is slow
is not pushed, memory holds one batch, and what was not taken waits in the store. A batch grows while it is taken well, up to
a number of jobs and of bytes. When the history is away what waits is tried again, later and later, and nothing is lost:
retention spares what waits (see `holdfast.feed`). Each time it is half as much, so that a history which is too slow for a
whole batch in its time still gets on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import HoldfastError, StoreError
from holdfast.feed import ExportFigures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.clock import Clock
    from holdfast.feed import Changes, Feed, Sink

logger: Final = logging.getLogger("holdfast.export")

_FIRST_BATCH: Final = 500


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How it goes. Seconds: poll, when there was nothing; retry_first and retry_most, after a failure; while it catches up,
    look between two looks at how much waits, and report between two lines of the log. batch, batch_bytes: the most of one."""

    poll: float = 1.0
    retry_first: float = 1.0
    retry_most: float = 30.0
    look: float = 2.0
    report: float = 30.0
    batch: int = 20_000
    batch_bytes: int = 32 * 1024 * 1024


class Exporter:
    """Exports one store to one history."""

    def __init__(
        self,
        feed: Feed,
        sink: Sink,
        clock: Clock,
        options: ExportOptions | None = None,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`feed` is open while this is used. clock: the machine's. prepare: makes the sink ready; tried until it succeeds."""
        self._prepare = prepare
        self._feed, self._sink, self._clock = feed, sink, clock
        self._options = options or ExportOptions()
        self._limit = min(_FIRST_BATCH, self._options.batch)
        self._figures = ExportFigures()
        self._reported = self._looked_at = 0.0
        self._behind = False

    # --- the life of it

    async def run(self, stopping: asyncio.Event) -> None:
        """Export until stopped. What the history or the store refuse is tried again; a fault of ours is raised."""
        pause = 0.0
        started = False
        while not stopping.is_set():
            try:
                if not started:
                    await self._start()
                    started = True
                more = await self.step()
            except HoldfastError as error:
                self._limit = max(1, self._limit // 2)
                pause = min(self._options.retry_most, max(self._options.retry_first, 2 * pause))
                self._failed(error, pause)
            else:
                pause = 0.0
                if more:
                    if self._clock.monotonic() - self._looked_at >= self._options.look:
                        await self._looked()
                    continue
            await self._looked()
            await _first_of(stopping, pause or self._options.poll)

    async def _looked(self) -> None:
        self._looked_at = self._clock.monotonic()
        try:
            await self.look()
        except StoreError as error:
            self._note(problem=self._figures.problem or str(error))

    async def _start(self) -> None:
        # First of all the store notes what ends, whether the history is there or not.
        await self._feed.start_export()
        if self._prepare is not None:
            await self._prepare()

    async def step(self) -> bool:
        """Export one batch; tell whether there is more. Raises StoreError; then nothing was acknowledged."""
        begin = self._clock.monotonic()
        changes = await self._feed.changes(self._limit)
        if changes.receipt:
            await self._bring(changes, begin)
        return changes.more

    async def catch_up(self) -> None:
        """Export all that waits now."""
        while await self.step():
            pass

    async def _bring(self, changes: Changes, begin: float) -> None:
        await self._sink.write(changes.items)
        await self._feed.exported(changes.receipt)
        took = self._clock.monotonic() - begin
        self._grow(changes)
        self._note(
            jobs=self._figures.jobs + len(changes.items),
            batches=self._figures.batches + 1,
            rate=len(changes.items) / took if took > 0 else 0.0,
            problem="",
        )
        self._report(more=changes.more)

    def _grow(self, changes: Changes) -> None:
        """Take more the next time, unless that is too many bytes; or fewer, when it was."""
        size = sum(_bytes_of(change.job) for change in changes.items if change.job is not None)
        if 2 * size > self._options.batch_bytes:
            self._limit = max(1, len(changes.items) * self._options.batch_bytes // (2 * max(1, size)))
        elif len(changes.items) >= self._limit:
            self._limit = min(self._options.batch, 2 * self._limit)

    # --- what is told of it

    def _note(self, **fields: float | str) -> None:
        self._figures = msgspec.structs.replace(self._figures, **fields)

    def _failed(self, error: HoldfastError, pause: float) -> None:
        if not self._figures.problem:
            logger.error("the export stands still, and is tried again from %g s on: %s", pause, error)
        self._note(failures=self._figures.failures + 1, problem=str(error), rate=0.0)
        self._behind = True

    def ended_by(self, error: Exception) -> None:
        """Say why nothing is exported any more."""
        self._note(problem=f"the export has ended: {error!r:.500}", rate=0.0)

    def _report(self, *, more: bool) -> None:
        """Say how fast it catches up, now and then, and when it has."""
        now = self._clock.monotonic()
        if more and now - self._reported >= self._options.report:
            self._reported, self._behind = now, True
            logger.info("catching up: %d jobs exported, %.0f jobs/s", self._figures.jobs, self._figures.rate)
        elif not more and self._behind:
            self._behind = False
            logger.info("the export has caught up: %d jobs since it was started", self._figures.jobs)

    @property
    def figures(self) -> ExportFigures:
        """What was done, and how far it was when the store was asked last."""
        return self._figures

    async def look(self) -> ExportFigures:
        """Ask the store how far it is; return the figures."""
        state = await self._feed.export_state()
        lag = max(0.0, self._clock.now() - state.oldest_at) if state.waiting and state.oldest_at is not None else 0.0
        self._note(waiting=state.waiting, lag=lag, dropped=state.dropped)
        return self._figures


def _bytes_of(job: object) -> int:
    payload: bytes = getattr(job, "payload", b"")
    result: bytes | None = getattr(job, "result", None)
    attempts = getattr(job, "attempts", ())
    texts = sum(len(one.error) + len(one.traceback) + len(one.log) for one in attempts)
    return 500 * (1 + len(attempts)) + len(payload) + len(result or b"") + texts


async def _first_of(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
