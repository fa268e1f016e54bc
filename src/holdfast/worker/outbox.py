"""Settling: outcomes gather while the last batch is being written; one flusher, no timer.

While the store is away the batch is tried again until the leases would have ended; a repeat by the same token is accepted,
so nothing is settled twice. A refusal (stale) is counted and told, and is never an error here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.batch import WHOLE, Gatherer
from holdfast.job.commands import Accepted, Canceled, ErrorInfo, Failed, Settlement, Snoozed, Succeeded
from holdfast.job.content import safe_str
from holdfast.worker.execution import Execution
from holdfast.worker.hooks import tell
from holdfast.worker.insist import AWAY, insist
from holdfast.worker.options import CLAIM_MAX
from holdfast.worker.reports import as_progress, encode_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job.commands import Settled
    from holdfast.store import Source
    from holdfast.worker.held import HeldClaims
    from holdfast.worker.hooks import Alarm, Listeners
    from holdfast.worker.reports import Reports
    from holdfast.worker.timing import Timing

#: Turns of the loop for which a batch gathers on while each brings more: some milliseconds at most.
TURNS_MAX: Final = 16
_STALE: Final = Accepted.STALE


class Outbox:
    """Takes ended executions and settles them; `over` is told of those that are done with."""

    def __init__(
        self,
        source: Source[Any],
        held: HeldClaims,
        reports: Reports,
        *,
        timing: Timing,
        monotonic: Callable[[], float],
        lease: float,
        alarm: Alarm,
        listeners: Listeners,
        over: Callable[[Sequence[Execution]], None],
    ) -> None:
        self._source, self._held, self._reports = source, held, reports
        self._timing, self._monotonic, self._lease = timing, monotonic, lease
        self._alarm, self._over = alarm, over
        self._settled, self._unsettled = listeners.settled, listeners.unsettled
        self._gatherer: Gatherer[Execution, Settled] = Gatherer(
            self._write,
            answered=self._answered,
            failed=self._refused,
            batch_max=CLAIM_MAX,
            turns_max=TURNS_MAX,
            whole=(*WHOLE, *AWAY),
        )
        self.add = self._gatherer.add  # the hot path: no call in between
        self.stale = 0

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more should be claimed."""
        return self._gatherer.full

    async def room(self) -> None:
        """Return when it is not full."""
        await self._gatherer.room()

    async def drain(self) -> None:
        """Return when all is settled, or given up."""
        await self._gatherer.drain()

    async def abort(self) -> None:
        """Stop writing at once."""
        await self._gatherer.abort()

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _write(self, batch: list[Execution]) -> list[Settled]:
        if self._reports.any:
            await self._write_reports(batch)
        settlements: list[Settlement[Any]] = [
            Settlement(
                e.claim,
                e.ending,  # type: ignore[arg-type]  # whoever adds an execution has decided its ending
                e.duration,
                b"" if e.report is None else _take_log(e),
                e.trace_id,
                e.span_id,
            )
            for e in batch
        ]
        answers: list[Settled] = await insist(
            lambda: self._source.settle(settlements),
            lambda: max(e.grant.sent + e.lease(self._lease) for e in batch),
            timing=self._timing,
            monotonic=self._monotonic,
            told=lambda error: self._alarm("", None, error),
        )
        if self._settled:
            for settlement, answer in zip(settlements, answers, strict=True):
                tell(self._settled, settlement, answer)
        return answers

    async def _write_reports(self, batch: list[Execution]) -> None:
        """Write what these attempts told and is not written: after the settle it would be refused."""
        told = [(e, e.report) for e in batch if e.report is not None and not e.report.only_lines]
        for execution, _ in told:
            execution.report = None
        if any(e.reporting for e in batch):
            # An earlier report is on its way; taken from e.report above, the rest can not overtake it.
            await self._reports.drain()
        if told:
            await self._reports.write([as_progress(e, report) for e, report in told], [e for e, _ in told])

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answered(self, batch: Sequence[Execution], answers: Sequence[Settled]) -> None:
        for answer in answers:
            if answer.accepted is _STALE:
                self.stale += 1
        self._held.remove_all(batch)
        self._over(batch)

    def _refused(self, execution: Execution, error: Exception) -> None:
        """The store raised for this very item. Its content may be why: the attempt then fails with what the store said."""
        self._alarm(execution.queue, execution.claim.item, error)
        has_content = isinstance(execution.ending, Succeeded | Snoozed | Canceled | Failed)
        if has_content and not execution.recovered and not self._gatherer.whole(error):
            execution.recovered = True
            execution.ending = _failure(execution, error)
            self.add(execution)
            return
        # Nothing more can be said to the store: the lease ends, and any worker rescues the job.
        tell(self._unsettled, execution, error)
        self._held.remove(execution)
        self._over((execution,))


def _failure(execution: Execution, error: Exception) -> Failed:
    if execution.program is not None:
        ending = execution.program.failed(error)
        if isinstance(ending, Failed):
            return ending
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return Failed(ErrorInfo(kind, safe_str(error)))


def _take_log(execution: Execution) -> bytes:
    report = execution.take_report()
    return b"" if report is None else encode_lines(report.lines)
