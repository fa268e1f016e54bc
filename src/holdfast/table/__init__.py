"""Task tables: a user's own table is the queue. Needs SQLAlchemy (extra `sqlalchemy`) and a driver of your database.

class Order(TaskMixin, Base):
    __tablename__ = "orders"
    order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    receipt: Mapped[str | None]

orders = TaskTable(Order, engine)

async def charge(order: Order, handle: Handle) -> None:
    handle.done(receipt=await pay(order))

await orders.create(Order(order_id="order-123"))
await TaskService(orders, charge).run(limit=100, concurrency=20)
"""

import importlib.util

from holdfast.errors import MissingExtra

if importlib.util.find_spec("sqlalchemy") is None:
    raise MissingExtra("a task table", "sqlalchemy")

from holdfast.table.control import Changed, Refused, Stuck
from holdfast.table.creating import Created
from holdfast.table.handle import Handle
from holdfast.table.mixin import TaskMixin
from holdfast.table.service import TaskService
from holdfast.table.table import RowPage, TableStats, TaskTable
from holdfast.table.words import TaskState

__all__ = [
    "Changed",
    "Created",
    "Handle",
    "Refused",
    "RowPage",
    "Stuck",
    "TableStats",
    "TaskMixin",
    "TaskService",
    "TaskState",
    "TaskTable",
]
