"""One claim in the hands of the worker, from the claim's answer to the settle's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.worker.context import Context

if TYPE_CHECKING:
    import asyncio

    from holdfast.job.commands import Ending
    from holdfast.worker.context import Line
    from holdfast.worker.lanes import Lane
    from holdfast.worker.program import Program


class Grant(msgspec.Struct, frozen=True):
    """When the store last renewed a lease, as far as this process can know: between these two moments (monotonic).

    `sent` is what the lease is counted from here, because the store can not have granted it earlier; `received` is what
    the age is counted from, because the store can not have granted it later.
    """

    sent: float
    received: float


class Report(msgspec.Struct):
    """What an attempt has told since its last report was written: encoded progress, an object to merge, log lines."""

    value: bytes = b""
    update: bytes | None = None
    lines: list[Line] = []

    @property
    def only_lines(self) -> bool:
        """Whether it can be written with the settlement itself."""
        return not self.value and self.update is None


class Execution(Context, kw_only=True):
    """A context, and what the worker itself knows of the attempt. Handlers see the context alone."""

    lane: Lane
    grant: Grant
    program: Program[Any] | None = None
    handler: asyncio.Task[None] | None = None  # while it runs
    started: float = -1.0  # monotonic; below zero: its handler has not begun
    duration: float | None = None
    ending: Ending | None = None  # decided; on its way to the store
    ended: bool = False  # decided, or dropped; whatever the handler returns later is refused
    abandoned: bool = False  # ended while its handler still runs
    recovered: bool = False  # the store refused the ending's content, and another one was sent
    report: Report | None = None  # told, and not written yet
    reporting: bool = False  # gathered, or being written
    within: Ending | None = None  # settled as this in the handler's own transaction

    def lease(self, wanted: float) -> float:
        """Seconds that its claim lives without a beat; `wanted` is what the worker asks for."""
        return self.claim.lease or wanted

    def take_report(self) -> Report | None:
        """Return what was told and not written yet, and forget it."""
        report, self.report = self.report, None
        return report
