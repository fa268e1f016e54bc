"""The shop of examples/orders does what its page says."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from examples.orders.bank import Bank
from examples.orders.shop import Shop
from holdfast.job.state import State
from tests.features import feature

ROOT = Path(__file__).parents[2]


@feature("G5", "G8", "G10", "G11")
def test_the_shop_charges_its_orders_asks_the_bank_twice_again_and_reports(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.orders", str(tmp_path / "shop.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "INIT     0",
        "DOING    0",
        "DONE     2",
        "ERROR    1",
        "PENDING  0",
        "paid in all: 19.50",
        "order-1: succeeded, asked again 2 times, receipt-order-1",
        "order-2: succeeded, asked again 2 times, receipt-order-2",
        "order-3: failed, asked again 0 times, the card of Bob was declined",
    ]


async def test_each_order_is_charged_once_and_a_declined_one_can_be_reset(tmp_path: Path) -> None:
    bank = Bank()
    shop = Shop(tmp_path / "shop.db", bank)
    await shop.open()
    await shop.place("Ann", "4242", {"order-1": Decimal(5)})
    await shop.place("Bob", "blocked", {"order-2": Decimal(6)})
    while (stats := await shop.orders.stats())[State.SUCCEEDED] + stats[State.FAILED] < 2:
        await shop.service.do_once()
    assert bank.charged == {"order-1": Decimal(5)}
    assert (await shop.orders.reset(ids=["order-1", "order-2"])).done == ("order-2",)
    assert (await shop.orders.get("order-2")).task_state is State.QUEUED
    await shop.close()
