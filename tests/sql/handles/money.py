"""A worker whose handler moves money and settles in one transaction: `python -m tests.sql.handles.money URL`."""

import sys
from typing import Any

from holdfast import Context, Holdfast, done

#: One row for each payment that was booked; the job may stand there twice, if it was booked twice.
LEDGER = "CREATE TABLE IF NOT EXISTS ledger (job VARCHAR(64), amount INTEGER)"


def bank(url: str, **options: Any) -> Holdfast:
    """Return an app on a database that has a ledger."""
    app = Holdfast(url, **options)

    @app.task("pay", max_attempts=100, backoff=["10ms"])
    async def pay(amount: int, *, ctx: Context) -> None:
        async with ctx.transaction() as tx:
            await book(tx, ctx.id, amount)
            await ctx.settle(done(amount), tx=tx)

    return app


async def book(tx: Any, job: str, amount: int) -> None:
    """Write a payment through the store's own driver."""
    sql = f"INSERT INTO ledger (job, amount) VALUES ('{job}', {amount})"
    kind = type(tx).__module__.partition(".")[0]
    if kind == "sqlite3":
        tx.execute(sql)
    elif kind == "asyncpg":
        await tx.execute(sql)
    else:
        async with tx.cursor() as cursor:
            await cursor.execute(sql)


if __name__ == "__main__":
    sys.exit(bank(sys.argv[1]).run({"default": 4}, lease=2.0, poll=0.05))
