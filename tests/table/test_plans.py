"""The claim reads its index and nothing else, however many rows have ended."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from holdfast.table import TaskTable
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine
from tests.table.models import Order, create_all

_NUMBERS = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) "
    "INSERT INTO orders ({columns}) SELECT {values} FROM s",
    "postgresql": "INSERT INTO orders ({columns}) SELECT {values} FROM generate_series(1, {count}) AS s(n)",
    "mysql": "INSERT INTO orders ({columns}) SELECT {values} FROM (SELECT seq AS n FROM seq_1_to_{count}) AS s",
}
_ANALYZE = {"sqlite": "ANALYZE", "postgresql": "ANALYZE orders", "mysql": "ANALYZE TABLE orders"}
_COLUMNS = "order_id, tries, task_state, task_run_at, task_token, task_attempt"


@pytest_asyncio.fixture
async def engine(servers: Databases, driver: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(servers.url(driver))
    await create_all(made)
    assert isinstance(made, AsyncEngine)
    yield made
    await made.dispose()


async def fill(engine: AsyncEngine, count: int) -> None:
    """Add finished rows, and as many thousandths of ready and of future ones."""
    form = _NUMBERS[engine.dialect.name]
    parts = (
        ("done", "succeeded", count, "n"),
        ("ready", "queued", count // 1_000, "n"),
        ("future", "scheduled", count // 1_000, "4000000000000000 + n"),
    )
    async with engine.begin() as connection:
        for prefix, state, rows, run_at in parts:
            row_id = f"concat('{prefix}-', n)" if engine.dialect.name == "mysql" else f"'{prefix}-' || n"
            values = f"{row_id}, 0, '{state}', {run_at}, 1, 1"
            await connection.execute(text(form.format(count=rows, columns=_COLUMNS, values=values)))
        await connection.execute(text(_ANALYZE[engine.dialect.name]))


async def plan(engine: AsyncEngine, orders: TaskTable[Order], statement: Any) -> str:
    """Return what the database says about a statement; on PostgreSQL it is run."""
    compiled = statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            found = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")
            value = found.scalar_one()
            return json.dumps(value if not isinstance(value, str) else json.loads(value))
        if engine.dialect.name == "mysql":
            return await counted(connection, str(compiled))
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        return " | ".join(row[-1] for row in found)


async def counted(connection: AsyncConnection, statement: str) -> str:
    """Return what MariaDB plans, and "SCAN" when running it reads more rows than it gives."""
    shown = (await connection.exec_driver_sql(f"EXPLAIN {statement.replace('%', '%%')}")).mappings().one()
    await connection.exec_driver_sql("FLUSH STATUS")
    given = len((await connection.exec_driver_sql(statement)).all())
    status = await connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
    read = sum(int(row["Value"]) for row in status.mappings() if row["Variable_name"] in _READS)
    faults = ("SCAN " if read > given + 5 else "") + ("Sort" if "filesort" in str(shown) else "")
    return f"{shown['key']} {faults}"


_READS = ("Handler_read_next", "Handler_read_prev", "Handler_read_rnd", "Handler_read_rnd_next", "Handler_read_first")


async def check_plans(engine: AsyncEngine, count: int) -> None:
    await fill(engine, count)
    orders = TaskTable(Order, engine)
    rows = orders._rows
    statements = {
        "claim": rows.free(50, rows.in_state("queued")),
        "promote": rows.free(50, rows.in_state("scheduled"), rows.column("task_run_at") <= 5),
        "rescue": rows.free(50, rows.in_state("running"), rows.column("task_lease_until") <= 5),
        "beat": orders._claiming.running_of("nobody"),
    }
    for name, statement in statements.items():
        shown = await plan(engine, orders, statement)
        assert "ix_orders_task" in shown, f"{name}: {shown}"
        assert "SCAN" not in shown, f"{name}: {shown}"
        assert "Seq Scan" not in shown, f"{name}: {shown}"
        assert "Sort" not in shown, f"{name}: {shown}"
        assert "TEMP B-TREE" not in shown, f"{name}: {shown}"
    assert len(await orders.acquire(50)) == min(50, count // 1_000)
    await orders.close()


@feature("GW16", "G22")
@pytest.mark.parametrize(
    ("driver", "count"),
    [
        ("sqlite", 1_000_000),
        ("postgresql", 1_000_000),
        ("mariadb", 100_000),
        pytest.param("mariadb", 1_000_000, marks=pytest.mark.soak),
    ],
)
async def test_a_claim_uses_its_index_beside_a_million_finished_rows(engine: AsyncEngine, count: int) -> None:
    await check_plans(engine, count)
