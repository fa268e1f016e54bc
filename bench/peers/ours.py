"""Holdfast on PostgreSQL through its public API, with default options. `python -m bench.peers.ours URL ACTION COUNT`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import uvloop

from holdfast import Holdfast
from holdfast.stores.sql.stats import RollUp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row
    from holdfast.stores.sql.stats import Ended

BULK: Final = 1_000
LARGE: Final = 10_000
CALLERS: Final = 100
TEXT: Final = "x" * 64
_LOOK_EVERY: Final = 0.02


class Ran:
    """What the handlers note."""

    def __init__(self) -> None:
        self.count = 0
        self.began = 0.0  # when the first one began, by the wall clock
        self.cpu = 0.0  # the process's own time then: connecting and importing are not paid per job
        self.waits: list[float] = []  # seconds from enqueue to start


def tasks(url: str) -> tuple[Holdfast, Any, Ran]:
    """An app with one task, and what its handlers note."""
    app, ran = Holdfast(url), Ran()

    @app.task("nothing")
    async def nothing(user_id: int, lang: str = "de", text: str = "", sent: float = 0.0) -> None:
        ran.count += 1
        if not ran.began:
            ran.began, ran.cpu = time.time(), time.process_time()
        if sent:
            ran.waits.append(time.time() - sent)

    return app, nothing, ran


async def fill(nothing: Any, count: int, bulk: int = BULK) -> float:
    """Enqueue in bulk; jobs per second."""
    begin = time.perf_counter()
    for start in range(0, count, bulk):
        await nothing.enqueue_many([(number, "de", TEXT) for number in range(start, start + bulk)])
    return count / (time.perf_counter() - begin)


async def flood(nothing: Any, count: int) -> float:
    """The same in the largest batches that are all or nothing."""
    return await fill(nothing, count, LARGE)


async def single(nothing: Any, count: int) -> float:
    """Enqueue one after the other; jobs per second."""
    begin = time.perf_counter()
    for number in range(count):
        await nothing.enqueue(number, "de", TEXT)
    return count / (time.perf_counter() - begin)


async def crowd(nothing: Any, count: int) -> float:
    """A hundred callers enqueue one after the other each; jobs per second."""

    async def caller() -> None:
        for number in range(count // CALLERS):
            await nothing.enqueue(number, "de", TEXT)

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - begin)


async def empty(connection: asyncpg.Connection, ran: Ran) -> float:
    """Return when no job is left that has not ended: the time of the last settle. Asks only while no handler runs."""
    seen = -1
    while seen != ran.count or await connection.fetchval("SELECT EXISTS (SELECT FROM holdfast_job)"):
        seen = ran.count
        await asyncio.sleep(_LOOK_EVERY)
    last = await connection.fetchval("SELECT finished_at FROM holdfast_done ORDER BY seq DESC LIMIT 1")
    return float(last) / 1e6 if last else time.time()


class NoFigures(RollUp):
    """Statistics that cost nothing and say nothing: one row, made once."""

    row: tuple[Any, ...] | None = None

    def rows(self, now: int, ended: Sequence[Ended]) -> list[Row]:
        """See RollUp."""
        if self.row is None:
            [self.row] = super().rows(now, ended[:1])
        return [self.row]


async def forget(app: Holdfast) -> None:
    """Let a settle keep nothing: no ended job, no count, no figures. What is left is what running a job needs."""
    store: Any = (await app._connection.session()).store
    hot = store._fast
    head, _, tail = hot._settle.partition("kept AS (")
    others = ", ".join(f"${number}" + kind for number, kind in KINDS.items())
    hot._settle = (
        f"{head.rstrip().rstrip(',')} SELECT count(*), CASE WHEN count(*) < cardinality($1::text::bigint[]) "
        f"THEN array_agg(seq) END, num_nulls({others}) < 0 FROM gone"
    )
    assert "cardinality" in tail, "the settle statement has another form"
    store._db.rollup = NoFigures()


#: What the statement that keeps nothing does not look at.
KINDS: Final = {
    7: "::smallint", 8: "::bigint[]", 9: "::text[]", 10: "::text[]", 11: "::smallint[]", 12: "::text[]", 13: "::text[]",
    14: "::bigint[]", 15: "::bigint[]", 16: "::bigint[]", 17: "::bytea[]", 18: "::bytea[]", 19: "::bigint[]",
    20: "::float8[]",
}  # fmt: skip


async def main(url: str, action: str, count: int) -> dict[str, Any]:
    """Do one action.

    `drain` ends when no job is left, `forget` too and keeps no history, `uncounted` no
    statistics, `both` enqueues meanwhile, `idle` one each 10 ms.
    """
    app, nothing, ran = tasks(url)
    connection = await asyncpg.connect(url)
    try:
        if action in ("fill", "flood", "single", "crowd"):
            await nothing.enqueue(0)  # connected, and the queue is there
            work = {"fill": fill, "flood": flood, "single": single, "crowd": crowd}[action]
            cpu = time.process_time()
            return {"rate": await work(nothing, count), "cpu": (time.process_time() - cpu) / count * 1e6}
        if action == "forget":
            await forget(app)
        if action == "uncounted":  # as a store that is opened with statistics=False
            db: Any = (await app._connection.session()).store
            db._db.rollup.enabled = False
        async with app.worker():
            if action == "both":
                ran.began, ran.cpu = time.time(), time.process_time()
                await fill(nothing, count)
            if action == "idle":
                for number in range(count):
                    await nothing.enqueue(number, "de", TEXT, time.time())
                    await asyncio.sleep(0.01)
            ended = await empty(connection, ran)
            cpu = time.process_time() - ran.cpu
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        waits = sorted(ran.waits)
        at = {f"p{part}": waits[len(waits) * part // 100] * 1e3 for part in (50, 99)} if waits else {}
        cpu = cpu / max(1, ran.count) * 1e6
        return {"rate": count / (ended - ran.began), "cpu": cpu, "rss": rss, "began": ran.began, "ended": ended, **at}
    finally:
        await connection.close()
        await app.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
