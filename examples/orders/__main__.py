"""Places three orders, charges them until none is left that could be, and prints the report."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from examples.orders.bank import Bank
from examples.orders.shop import Shop
from holdfast.table import TaskState


async def main(file: Path) -> None:
    """Run the shop on one file."""
    shop = Shop(file, Bank())
    await shop.open()
    await shop.place("Ann", "4242", {"order-1": Decimal("12.50"), "order-2": Decimal("7.00")})
    await shop.place("Bob", "blocked", {"order-3": Decimal("99.00")})
    await shop.service.start(limit=10, concurrency=5, interval=0.1)
    while (stats := await shop.orders.stats())[TaskState.DONE] + stats[TaskState.ERROR] < stats.total:  # noqa: ASYNC110 - only the database knows
        await asyncio.sleep(0.05)
    await shop.service.stop()
    print("\n".join(await shop.report()))
    await shop.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder) / "shop.db"))
