"""The port `Feed`: what an exporter asks of a SQL store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.feed import Change, Changes, ExportState
from holdfast.stores.sql import feed
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Script, Step


class FeedCalls(SqlBase):
    """Changes of what has ended, and their acknowledgement."""

    async def start_export(self) -> None:
        """Note changes from now on, and what has ended before."""
        if not await self._read(feed.is_on):
            await self._write(lambda step: step.db.feed.start(step))

    async def stop_export(self) -> None:
        """Note nothing more."""
        await self._write(lambda step: step.db.feed.stop(step))

    async def changes(self, limit: int) -> Changes:
        """The oldest changes that were not acknowledged, each with its job as it is now."""
        past = await self._read(feed.has_past) and await self._write(
            lambda step: step.db.feed.more_of_past(step, limit)
        )
        found = await self._read(partial(_changes, limit=limit))
        return Changes(items=found.items, receipt=found.receipt, more=found.more or past)

    async def exported(self, receipt: bytes) -> None:
        """Acknowledge changes."""
        await self._write(lambda step: step.db.feed.acknowledge(step, receipt))

    async def export_state(self) -> ExportState:
        """How far the export is."""
        on, waiting, oldest_at, dropped = await self._read(feed.state)
        return ExportState(on=on, waiting=waiting, oldest_at=oldest_at, dropped=dropped)


def _changes(step: Step, limit: int) -> Script[Changes]:
    waiting = yield from step.db.feed.waiting(step, limit)
    # Read after the changes, so each job is at least as new as its change. A job that retention let go is passed over.
    jobs = yield from feed.by_seq(step, list(waiting.changes))
    epoch = (yield from feed.epoch(step)) if jobs or waiting.changes else 0
    items = [
        Change(seq=seq, version=epoch + version, job=jobs.get(seq))
        for seq, (version, gone) in waiting.changes.items()
        if gone or seq in jobs
    ]
    return Changes(items=tuple(items), receipt=waiting.receipt, more=waiting.more)
