"""A service of which one row kills its process: `python -m tests.table.poison`; ORDERS_URL names the database."""

import os
import signal
import sys

from sqlalchemy.engine import make_url

from holdfast import RetryPolicy
from holdfast.table import Handle, TaskService, TaskTable
from tests.table.engines import make_engine
from tests.table.models import Order


async def charge(order: Order, handle: Handle) -> None:
    """Work, or die with all that is in this process."""
    if order.order_id == "n-2":
        os.kill(os.getpid(), signal.SIGKILL)
    handle.done(receipt=f"by {os.getpid()}")


orders = TaskTable(Order, make_engine(make_url(os.environ["ORDERS_URL"])), retry=RetryPolicy(max_attempts=9, base=0))
service = TaskService(orders, charge)

if __name__ == "__main__":
    # The lease is long: what is run again is so because a death was seen, not because a lease had ended.
    sys.exit(service.serve(processes=2, name="tests.table.poison:service", lease=300.0, interval=0.05))
