"""A shop: orders in a table of its own, confirmations and reports as jobs beside them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from holdfast import Context, Holdfast, done


@dataclass
class Shop:
    """The database of the shop, and its tasks."""

    path: str
    app: Holdfast
    sent: list[str]


# --- 1. set up -----------------------------------------------------------------------------------------------------


async def set_up(path: str) -> Shop:
    """Open the store in the shop's own database."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL)")
    connection.close()
    shop = Shop(path, Holdfast(f"sqlite:///{path}"), [])
    register(shop)
    await shop.app.open()
    return shop


# --- 2. define -----------------------------------------------------------------------------------------------------


async def define(shop: Shop) -> None:
    """Make a task known whose code is elsewhere, and say for people what another one is for."""
    await shop.app.definitions.create("parcel.print", title="Print a parcel's label", memo="Runs in the warehouse.")
    # One job at a time, over all processes: invoices are numbered in order.
    await shop.app.queues.mode("ledger", "serial", create=True)


# --- 3. register ---------------------------------------------------------------------------------------------------


def register(shop: Shop) -> None:
    """Give the tasks their functions."""
    app, sent = shop.app, shop.sent

    @app.task("order.confirm", queue="mail", max_attempts=5, title="Confirm an order")
    async def confirm(order: int, customer: str, *, ctx: Context) -> str:
        ctx.log(f"order {order} of {customer}")
        sent.append(customer)
        return f"mail to {customer}"

    @app.task("order.book", queue="ledger", title="Write an invoice")
    async def book(order: int, total: float, *, ctx: Context) -> None:
        # The shop's write and the job's outcome are one transaction: booked once, whatever happens.
        async with ctx.transaction() as database:
            database.execute("UPDATE orders SET total = ? WHERE id = ?", (total, order))
            await ctx.settle(done(total), tx=database)

    @app.task("report.daily", title="Send the day's figures")
    def report(kind: str = "short") -> str:
        return f"a {kind} report"


# --- 4. enqueue ----------------------------------------------------------------------------------------------------


async def place_order(shop: Shop, customer: str, total: float) -> int:
    """Store an order and its jobs in one transaction: all of them, or none."""
    connection = sqlite3.connect(shop.path)
    try:
        order = connection.execute("INSERT INTO orders (customer) VALUES (?)", (customer,)).lastrowid or 0
        await shop.app.enqueue("order.confirm", {"order": order, "customer": customer}, tx=connection)
        await shop.app.enqueue("order.book", {"order": order, "total": total}, tx=connection)
        connection.commit()
    finally:
        connection.close()
    return order


# --- 5. process ----------------------------------------------------------------------------------------------------


async def process(shop: Shop) -> int:
    """Run what is ready in both queues, and what the schedules made; return how many jobs were done."""
    app = shop.app
    await app.schedules.create(
        "figures", "report.daily", {"kind": "full"}, cron="0 18 * * mon-fri", zone="Europe/Berlin"
    )
    await app.schedules.run("figures")
    runner = app.runner({"mail": 10, "ledger": "serial", "default": 1})
    passed = await runner.run_once()
    return len(passed.done)
