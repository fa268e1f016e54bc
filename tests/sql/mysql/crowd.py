"""A database that is full: a long history, a far future, many ready jobs. Made by the server itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from holdfast.chance import SystemDraw
from holdfast.stores.sql.drivers.asyncmy import AsyncmyDriver, _Run
from holdfast.stores.sql.rows import job_row
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Script, Step
from tests.sql.mysql.harness import DatabaseHarness, ask

T = TypeVar("T")


async def fill(h: DatabaseHarness, *, done: int, future: int, ready: int) -> None:
    """Fill the tables with jobs of the queue "default"; one job is made by the store, the others are like it."""
    job = await h.add(payload=b'{"user":42}')
    names = dict(zip(JOB_COLUMNS, job_row(job), strict=True))
    now, year = names["run_at"], 365 * 86_400 * 1_000_000
    like = ", ".join(JOB_COLUMNS)

    def made(prefix: str, **changes: str) -> str:
        changes = {"id": f"concat('{prefix}', s.seq)", "seq": "s.seq + {0}", **changes}
        return ", ".join(changes.get(name, f"j.{name}") for name in JOB_COLUMNS)

    one = f"FROM holdfast_job AS j WHERE j.seq = {job.seq}"
    live = f"INSERT INTO holdfast_job ({like}) SELECT"
    ready_rows = made("r", run_at=f"{now} + s.seq").format(10)
    future_rows = made("f", state="1", ready="0", queued_at="NULL", run_at=f"{now} + {year} + s.seq").format(10 + ready)
    ended = made("d", state="6", ready="0", attempt="1", token="1", instance="'i'", started_at=str(now))
    end = f"{now}, 0.1, NULL, NULL, NULL"
    ask(
        h.server,
        h.database,
        f"CREATE TEMPORARY TABLE one AS SELECT {like} {one}",
        f"{live} {ready_rows} FROM seq_1_to_{ready} AS s JOIN one AS j",
        f"{live} {future_rows} FROM seq_1_to_{future} AS s JOIN one AS j",
        f"INSERT INTO holdfast_done ({', '.join(DONE_COLUMNS)}) SELECT {ended.format(10_000_000)}, {end} "
        f"FROM seq_1_to_{done} AS s JOIN one AS j",
        "INSERT INTO holdfast_tally SELECT queue, task, worker, state, 0, count(*), count(duration), sum(duration) * 1000000"
        " FROM holdfast_done GROUP BY queue, task, worker, state",
    )


async def rows_read(h: DatabaseHarness, make: Callable[[Step], Script[T]]) -> tuple[int, T]:
    """Run a script on a connection of its own; return how many rows the server looked at for it, and its answer."""
    driver = h.store._driver
    assert isinstance(driver, AsyncmyDriver)
    link = await driver.connect()
    try:
        await link.ask("FLUSH STATUS")
        answer = await _Run(write=True).through(link, make(Step(driver.db, SystemDraw(h.clock))))
        counts = await link.ask("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _, count in counts), answer
    finally:
        await link.close(timeout=5.0)
