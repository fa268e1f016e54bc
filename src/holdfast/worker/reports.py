"""Progress, data and log lines of running attempts: gathered, written fenced. A refusal means that the claim is over."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.batch import Gatherer
from holdfast.job.commands import Accepted, Progress
from holdfast.worker.execution import Report
from holdfast.worker.insist import insist

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from holdfast.job.commands import Settled
    from holdfast.store import Source
    from holdfast.worker.context import Line
    from holdfast.worker.execution import Execution
    from holdfast.worker.hooks import Alarm
    from holdfast.worker.timing import Timing

_encode: Final = msgspec.json.Encoder().encode
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

Told = tuple["Execution", bytes, bytes | None, "list[Line]"]


class Reports:
    """Takes reports from any thread and writes them; `lost` is told of each attempt whose report was refused."""

    def __init__(
        self,
        source: Source[Any],
        *,
        loop: asyncio.AbstractEventLoop,
        timing: Timing,
        monotonic: Callable[[], float],
        lease: float,
        alarm: Alarm,
        lost: Callable[[Execution], None],
    ) -> None:
        self._source, self._loop, self._timing, self._monotonic = source, loop, timing, monotonic
        self._lease, self._alarm, self._lost = lease, alarm, lost
        self._inbox: deque[Told] = deque()
        self._waking = False
        self._gatherer: Gatherer[Execution, Settled | None] = Gatherer(
            self._write, answered=self._answered, failed=self._failed
        )
        self.any = False  # whether anything was ever reported: most workers never have to look

    def tell(self, execution: Execution, value: bytes, update: bytes | None, lines: list[Line]) -> None:
        """Take a report. From any thread; the loop is woken once for all that comes until it looks."""
        self._inbox.append((execution, value, update, lines))
        if not self._waking:
            self._waking = self.any = True
            self._loop.call_soon_threadsafe(self.collect)

    def collect(self) -> None:
        """Add what was told to what is gathered."""
        # Cleared before looking: what is appended after the last look wakes the loop again.
        self._waking = False
        while self._inbox:
            execution, value, update, lines = self._inbox.popleft()
            if execution.ended:
                continue  # told by an abandoned handler: its claim is over
            report = execution.report = execution.report or Report(lines=[])
            report.value = value or report.value
            report.update = _merged(report.update, update)
            report.lines += lines
            self._gather(execution)

    def _gather(self, execution: Execution) -> None:
        if not execution.reporting:
            execution.reporting = True
            self._gatherer.add(execution)

    async def _write(self, batch: list[Execution]) -> list[Settled | None]:
        told = [(execution, execution.take_report()) for execution in batch]
        written = [(execution, as_progress(execution, report)) for execution, report in told if report is not None]
        if not written:
            return [None] * len(batch)
        answers = await self.write([progress for _, progress in written], [execution for execution, _ in written])
        by_execution = dict(zip((id(execution) for execution, _ in written), answers, strict=True))
        return [by_execution.get(id(execution)) for execution in batch]

    async def write(self, reports: list[Progress[Any]], executions: list[Execution]) -> list[Settled]:
        """Write reports now; while the store is away, until the last of their leases would have ended."""

        def until() -> float:
            return max(one.grant.sent + one.lease(self._lease) for one in executions)

        return await insist(
            lambda: self._source.progress(reports),
            until,
            timing=self._timing,
            monotonic=self._monotonic,
            told=lambda error: self._alarm("", None, error),
        )

    def _answered(self, batch: Sequence[Execution], answers: Sequence[Settled | None]) -> None:
        for execution, answer in zip(batch, answers, strict=True):
            if answer is not None and answer.accepted is Accepted.STALE and not execution.ended:
                self._lost(execution)
            self._go_on(execution)

    def _failed(self, execution: Execution, error: Exception) -> None:
        self._alarm(execution.queue, execution.claim.item, error)
        self._go_on(execution)

    def _go_on(self, execution: Execution) -> None:
        execution.reporting = False
        if execution.report is not None and not execution.ended:
            self._gather(execution)

    async def drain(self) -> None:
        """Return when all that was told is written."""
        self.collect()
        await self._gatherer.drain()

    async def abort(self) -> None:
        """Stop at once."""
        await self._gatherer.abort()


def as_progress(execution: Execution, report: Report) -> Progress[Any]:
    """Return the report as the store takes it."""
    return Progress(execution.claim, report.value, report.update, encode_lines(report.lines))


def encode_lines(lines: list[Line]) -> bytes:
    """Return log lines as a JSON array; nothing for none."""
    return _encode(lines) if lines else b""


def _merged(first: bytes | None, second: bytes | None) -> bytes | None:
    if first is None or second is None:
        return first if second is None else second
    return _encode({**_objects.decode(first), **_objects.decode(second)})
