"""A task table as the contract suite of sources sees it."""

from collections.abc import Callable

from msgspec.structs import replace
from sqlalchemy import Engine, update
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.clock import ManualClock
from holdfast.job.state import End, State
from holdfast.table import TaskTable
from holdfast.table.rules import Row
from holdfast.testing.contract import Look, SourceHarness
from holdfast.testing.contract.harness import FIXED
from tests.table.models import Order


class TableHarness(SourceHarness[Order]):
    """Orders on a steered clock."""

    task = queue = "orders"

    def __init__(self, make_engine: Callable[[], Engine | AsyncEngine]) -> None:
        self._engine = make_engine()
        clock = ManualClock()
        self.table = TaskTable(Order, self._engine, retry=FIXED, clock=clock)
        super().__init__(self.table, clock)
        self._made = 0

    async def open(self) -> None:
        """The tables are there."""

    async def close(self) -> None:
        """Close the engine."""
        await self.table.close()
        if isinstance(self._engine, AsyncEngine):
            await self._engine.dispose()
        else:
            self._engine.dispose()

    async def make(self, count: int = 1, *, delay: float = 0.0, max_attempts: int = 100) -> list[str]:
        """Make orders; a table has one policy for all its rows."""
        self.table.retry_policy = replace(FIXED, max_attempts=max_attempts)
        ids = [f"order-{self._made + place:06d}" for place in range(count)]
        self._made += count
        await self.table.create([Order(order_id=one) for one in ids], delay=delay or None)
        return ids

    async def look(self, item_id: str) -> Look:
        """Look at a row as it is stored."""
        rows = self.table._rows
        statement = rows.chosen(rows.has_key([(item_id,)]))
        [row], _ = await self.table._gate.run(lambda connection: rows.read(connection, statement), write=False)
        order = await self.table.get(item_id)
        assert row.state is not None
        return Look(
            state=row.state,
            attempt=row.attempt,
            token=row.token,
            failures=row.failures,
            crashes=row.note.crashes,
            snoozes=row.snoozes,
            releases=row.note.releases,
            run_at=row.run_at / 1_000_000,
            end=_end_of(row),
            error=order.task_error or "",
            cancel_asked=row.note.cancel is not None,
        )

    async def snoozed(self, item_id: str, times: int) -> None:
        """Count as if the row had been put off so many times: the counter is all that is left of it."""
        statement = update(Order).where(Order.order_id == item_id).values(task_snoozes=times)
        await self.table.gate.run(lambda connection: connection.execute(statement))

    async def ask_cancel(self, item_id: str) -> None:
        """Cancel as a person would."""
        changed = await self.table.cancel(ids=[item_id], who="ann", why="because")
        assert not changed.refused, changed.refused


def _end_of(row: Row) -> End | None:
    if row.state is State.RUNNING or row.attempt == 0:
        return None
    return End.SUCCEEDED if row.state is State.SUCCEEDED else End(row.note.end) if row.note.end else None
