"""Joins the runner and the pool of child processes. The pool is made when the first job needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.job.commands import Ending
    from holdfast.worker.context import CancelReason, Line
    from holdfast.worker.execution import Execution
    from holdfast.worker.options import WorkerOptions
    from holdfast.worker.process.pool import ProcessPool
    from holdfast.worker.program import Program
    from holdfast.worker.reports import Reports


class Children:
    """Runs attempts in child processes, as many at once as there are slots."""

    def __init__(self, slots: int, options: WorkerOptions, clock: Clock) -> None:
        self._slots, self._options, self._clock = slots, options, clock
        self._pool: ProcessPool | None = None
        self.reports: Reports | None = None

    async def run(self, e: Execution, program: Program[Any], grace: float) -> Ending:
        """Run one attempt; return how it ended, whatever became of the child."""
        reports = self.reports
        assert reports is not None, "joined before the first job"

        def progress(value: bytes, update: bytes | None) -> None:
            reports.tell(e, value, update, [])

        def log(line: Line) -> None:
            reports.tell(e, b"", None, [line])

        result = await self._open().run(
            program.process_call(e.claim),
            time_limit=program.time_limit(e.claim),
            on_progress=progress,
            on_log=log,
            cancel=_Asked(e),
            cancel_grace=grace,
        )
        # The start of a fresh child is not the job's time.
        e.started = max(e.started, self._clock.monotonic() - result.duration)
        return result.ending

    def _open(self) -> ProcessPool:
        if self._pool is None:
            from holdfast.worker.process.pool import ProcessPool

            self._pool = ProcessPool(
                self._slots,
                clock=self._clock,
                max_jobs_per_child=self._options.max_jobs_per_child,
                max_rss=self._options.max_rss,
            )
        return self._pool

    async def close(self) -> None:
        """End all children."""
        if self._pool is not None:
            await self._pool.close()


class _Asked:
    """An execution as the pool's signal to stop."""

    def __init__(self, e: Execution) -> None:
        self._e = e

    def is_set(self) -> bool:
        return self._e.cancelled

    async def wait(self) -> CancelReason:
        return await self._e.cancel_wait()
