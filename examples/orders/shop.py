"""The shop: places orders in its own transactions, charges them by a service, and tells what became of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from examples.orders.bank import Answer, Bank
from examples.orders.models import Base, Customer, Order
from holdfast import State
from holdfast.table import Handle, TaskService, TaskTable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long to wait before the bank is asked again.
ASK_AGAIN = "20ms"


class Shop:
    """One shop on one database file."""

    def __init__(self, file: Path, bank: Bank) -> None:
        self.engine: AsyncEngine = create_async_engine(f"sqlite+aiosqlite:///{file}")
        self.orders = TaskTable(Order, self.engine)
        self.service = TaskService(self.orders, self.charge, timeout="10s", on_error=lambda *_: None)
        self._bank = bank

    async def open(self) -> None:
        """Make the tables that are missing. A real shop uses its migrations here."""
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def close(self) -> None:
        """Let the database go."""
        await self.orders.close()
        await self.engine.dispose()

    async def place(self, name: str, card: str, totals: Mapping[str, Decimal]) -> None:
        """Store a customer and his orders together: either all of it is there, or nothing."""
        async with AsyncSession(self.engine) as session, session.begin():
            customer = Customer(name=name, card=card)
            session.add(customer)
            await session.flush()
            rows = [Order(order_id=one, customer_id=customer.id, total=total) for one, total in totals.items()]
            await self.orders.create(rows, session=session)

    async def charge(self, order: Order, handle: Handle) -> None:
        """Charge one order. What is reported is written with the order's state, in one statement."""
        answer = await self._bank.pay(order.order_id, order.customer.card, order.total)
        if answer is Answer.PENDING:
            handle.pending(ASK_AGAIN, polls=order.polls + 1)
        elif answer is Answer.DECLINED:
            handle.error(f"the card of {order.customer.name} was declined")
        else:
            handle.done(receipt=f"receipt-{order.order_id}", paid_at=datetime.now(UTC))

    async def report(self) -> list[str]:
        """What became of the orders, as lines of text."""
        stats = await self.orders.stats()
        lines = [f"{word.value:<8} {count}" for word, count in stats.words.items()]
        async with AsyncSession(self.engine) as session:
            paid = await session.scalar(select(func.sum(Order.total)).where(Order.task_state == State.SUCCEEDED))
            lines.append(f"paid in all: {paid or Decimal(0):.2f}")
        for order in (await self.orders.list()).items:
            told = order.receipt or order.task_error or ""
            lines.append(f"{order.order_id}: {order.task_state}, asked again {order.polls} times, {told}")
        return lines
