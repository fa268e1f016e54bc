"""What an enqueue through an app locks: a transaction keeps sixteen locks on relations cheaply, and more of them dearly."""

from __future__ import annotations

from typing import Final

import asyncpg

from holdfast.job.model import FreshJob
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.script import Step

CHEAP: Final = 16

_HELD: Final = (
    "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'holdfast%'"
)
_INDEXES: Final = "SELECT count(*) FROM pg_index WHERE indrelid = 'holdfast_job'::regclass"


async def test_one_enqueue_takes_no_more_locks_than_are_cheap(url: str) -> None:
    """Measured: with one index more on the live table, a fifth of the server's time for an enqueue is spent on locks."""
    connection = await asyncpg.connect(url)
    try:
        db = PostgresDialect("holdfast_")
        step = Step(db, None)  # type: ignore[arg-type]  # nothing is drawn
        statement, another = (
            next(db.hot.enqueue_plain(step, [FreshJob(id=name, task="t")])) for name in ("one", "two")
        )
        await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        await connection.execute(
            "INSERT INTO holdfast_queue VALUES ('default', 0, NULL, NULL, $1)", b"\x81\xa4name\xa7default"
        )
        await connection.fetch(another.sql, *another.args)  # planning it locks more, and is done once for a connection
        async with connection.transaction():
            assert await connection.fetch(statement.sql, *statement.args), "nothing was stored"
            held = await connection.fetchval(_HELD)
        # The indexes of the table that is written are let go of again within the statement.
        assert held + await connection.fetchval(_INDEXES) <= CHEAP
    finally:
        await connection.close()
