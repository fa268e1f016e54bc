"""An app whose node lists a task table beside its queues. The variable ORDERS_DB names the file."""

import os

from sqlalchemy.ext.asyncio import create_async_engine

from holdfast import Holdfast
from holdfast.table import TaskTable
from tests.table.models import Order

app = Holdfast("journal:./data")
app.tables.append(TaskTable(Order, create_async_engine(f"sqlite+aiosqlite:///{os.environ['ORDERS_DB']}")))


@app.task("greet")
async def greet(name: str) -> str:
    """Say hello."""
    return f"hello {name}"
