"""The hot statements find their rows by index, and other jobs cost them nothing: also a million of them."""

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.chance import SystemDraw
from holdfast.clock import ManualClock
from holdfast.job import commands as c
from holdfast.job.model import Instance, NewJob
from holdfast.stores.sql import reads, upkeep
from holdfast.stores.sql.dialects.sqlite import SqliteDialect
from holdfast.stores.sql.migrate import migrate
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.script import Script, Statement, Step, run_sync
from tests.features import feature
from tests.sql.core.pages import PAGE, PAGES

FINISHED, FUTURE, READY = 1_000_000, 1_000_000, 100_000
WANT = c.Want(queues=(c.QueueWant("default", 100),), limit=100, instance="i1", worker="w")
#: How many instructions of SQLite's machine make one tick of the count.
TICK = 50
_LIKE: dict[str, str] = {
    "queue": "'default'", "task": "'t'", "ready": "0", "prio": "0", "payload": "x'7b7d'", "lane": "0", "pod_epoch": "0",
    "suspect": "0", "created_at": "1", "updated_at": "1", "attempt": "0", "token": "0", "worker": "''", "version": "''",
    "lease_until": "0", "cancel_asked": "0",
}  # fmt: skip


class Counted:
    """A file without a store around it: scripts run here, their statements are kept, their work is counted."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.db = SqliteDialect("holdfast_", self.clock)
        folder.mkdir()
        self.file = folder / "queue.db"
        self.connection = sqlite3.connect(self.file, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.statements: list[Statement] = []
        self.ticks = 0
        self.do(migrate)

    def _tick(self) -> int:
        self.ticks += 1
        return 0

    def _execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        self.statements.append(statement)
        if statement.many:
            self.connection.executemany(statement.sql, statement.args)
            return []
        return self.connection.execute(statement.sql, statement.args).fetchall()

    def do(self, make: Callable[[Step], Script[Any]]) -> Any:
        """Run a script in a transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        answer = run_sync(make(Step(self.db, SystemDraw(self.clock, seed=1))), self._execute)
        self.connection.execute("COMMIT")
        return answer

    def cost(self, make: Callable[[Step], Script[Any]]) -> int:
        """Run a script; return the ticks that its statements took."""
        self.ticks = 0
        self.connection.set_progress_handler(self._tick, TICK)
        try:
            self.do(make)
        finally:
            self.connection.set_progress_handler(None, 0)
        return self.ticks

    def believe(self, other: "Counted") -> None:
        """Take over the statistics of another file, as if they were this one's."""
        rows = other.connection.execute("SELECT * FROM sqlite_stat1").fetchall()
        self.connection.execute("ANALYZE sqlite_master")  # makes the table
        self.connection.execute("DELETE FROM sqlite_stat1")
        self.connection.executemany("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", rows)
        self.connection.close()
        self.connection = sqlite3.connect(self.file, isolation_level=None)

    def life(self, tag: str) -> dict[str, int]:
        """What each part of the life of a hundred jobs takes."""
        jobs = tuple(NewJob(id=f"{tag}-{number}", task="t") for number in range(100))
        hot = self.db.hot
        costs = {"enqueue": self.cost(lambda step: hot.enqueue(step, c.Enqueue(jobs=jobs)))}
        found: list[c.Claims[Any]] = []

        def claim(step: Step) -> Script[None]:
            found.append((yield from hot.claim(step, WANT)))

        costs["claim"] = self.cost(claim)
        assert len(found[0].items) == 100
        beat = c.Beat(instance=Instance(id="i1", worker="w"), lease=30.0)
        costs["beat"] = self.cost(lambda step: upkeep.beat(step, beat))
        settlements = [c.Settlement(claim, c.Succeeded(b"1"), 0.1) for claim in found[0].items]
        costs["settle"] = self.cost(lambda step: hot.settle(step, settlements))
        costs["rescue"] = self.cost(lambda step: upkeep.rescue(step, 1_000))
        return costs

    def fill(self, table: str, first: int, count: int, **columns: str) -> None:
        """Make rows that are alike, numbered from `first`; `n` is their number."""
        names = DONE_COLUMNS if table == "done" else JOB_COLUMNS
        values = {**_LIKE, "seq": "n", "id": "'crowd-' || n", **columns}
        self.connection.execute(
            f"WITH RECURSIVE many(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM many LIMIT {count})"
            f" INSERT INTO holdfast_{table} ({', '.join(names)})"
            f" SELECT {', '.join(values.get(name, 'NULL') for name in names)} FROM many"
        )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where that is possible: it holds half a gigabyte."""
    path = Path(tempfile.mkdtemp(prefix="holdfast-plans-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield path
    shutil.rmtree(path)


def _crowd(store: Counted) -> None:
    now = int(store.clock.now() * 1e6)
    year = 365 * 86_400 * 1_000_000
    store.fill("done", 1_000_000, FINISHED, state="6", run_at="n", finished_at=str(now), attempt="1", token="1")
    store.connection.execute(f"INSERT INTO holdfast_tally VALUES ('other', 't', 'w', 6, 0, {FINISHED}, 0, 0)")
    store.fill("job", 3_000_000, FUTURE, state="1", run_at=f"{now + year} + n")
    store.fill("job", 6_000_000, READY, state="2", ready="1", run_at=f"{now} + n", queued_at=str(now))


def plan(store: Counted, statement: Statement) -> str:
    """How SQLite would do a statement, in its own words."""
    args = statement.args[0] if statement.many else statement.args
    rows = store.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", args).fetchall()
    return "; ".join(row[3] for row in rows)


def check_plans(store: Counted) -> None:
    """Each statement that was done finds its jobs by an index, and the claim reads its index in order."""
    seen = {statement.sql: plan(store, statement) for statement in store.statements}
    steps = [(step, sql) for sql, how in seen.items() for step in how.split("; ")]
    scans = [(step, sql) for step, sql in steps if step.startswith(("SCAN holdfast_job", "SCAN holdfast_done"))]
    assert all("INDEX holdfast_job_" in step for step, _ in scans), scans
    claims = [how for sql, how in seen.items() if "ready = 1 ORDER BY" in sql]
    assert claims
    assert all("holdfast_job_ready" in how and "TEMP B-TREE" not in how for how in claims), claims


@feature("T16")
def test_a_million_finished_and_future_jobs_cost_the_hot_path_nothing(folder: Path) -> None:
    small, large = Counted(folder / "small"), Counted(folder / "large")
    small.life("warm")
    alone = small.life("alone")
    small.connection.execute("ANALYZE")  # while it is as good as empty
    large.life("warm")
    _crowd(large)
    for statistics in ("none", "stale"):
        if statistics == "stale":
            large.believe(small)
        large.statements.clear()
        crowded = large.life(statistics)
        check_plans(large)
        for part, ticks in alone.items():
            assert crowded[part] <= ticks * 1.5 + 20, f"{part}: {ticks} ticks alone, {crowded[part]} beside the crowd"
    for store in (small, large):
        store.connection.close()


# --- pages of lists --------------------------------------------------------------------------------------------------

HISTORY, WAITING = 150_000, 100_000
#: Instructions that it takes at most to pass over a job.
WALK = 12


@pytest.fixture(scope="module")
def history(folder: Path) -> Iterator[Counted]:
    """A long history and many jobs that wait, all alike but for one that is rare, in the middle."""
    store = Counted(folder / "history")
    store.life("warm")
    now = int(store.clock.now() * 1e6)
    ended = {
        "state": "6",
        "run_at": "n",
        "finished_at": "n",
        "attempt": "1",
        "token": "1",
        "instance": "'i'",
        "worker": "'w'",
    }
    store.fill("done", 1_000_000, HISTORY, **ended)
    store.fill("job", 3_000_000, WAITING, state="1", run_at=f"{now} + n")
    store.fill("job", 6_000_000, WAITING, state="2", ready="1", run_at=f"{now} + n", queued_at=str(now))
    store.connection.execute(f"INSERT INTO holdfast_tally VALUES ('default', 't', 'w', 6, 1, {HISTORY}, 0, 0)")
    for table, seq in (("done", 1_050_000), ("job", 3_050_000), ("job", 6_050_000)):
        worker = ", worker = 'rare', attempt = 1, instance = 'i'" if seq != 6_050_000 else ""
        store.connection.execute(f"UPDATE holdfast_{table} SET task = 'rare'{worker} WHERE seq = {seq}")
    store.connection.execute("INSERT INTO holdfast_tally VALUES ('default', 'rare', 'rare', 6, 0, 1, 0, 0)")
    yield store
    store.connection.close()


@feature("H4")
@pytest.mark.parametrize("statistics", ["none", "fresh"])
def test_a_page_walks_past_no_job_that_it_does_not_show(history: Counted, statistics: str) -> None:
    if statistics == "fresh":
        history.connection.execute("ANALYZE")
    for which, page in PAGES:
        history.statements.clear()
        found: list[c.JobPage] = []
        ticks = history.cost(partial(_find, which, page, found))
        steps = [step for one in history.statements for step in plan(history, one).split("; ")]
        walks = [step for step in steps if re.match(r"SCAN holdfast_(job|done)(?!.*INDEX)|SEARCH .*\(rowid[<>]", step)]
        # What is ready has no index for lists here, and is walked: once, and nothing else is.
        ready = [one for one in history.statements if "+state = 2" in one.sql]
        assert len(walks) <= len(ready) <= 1, walks
        most = PAGE * 40 + bool(ready) * WAITING * 2 * WALK / TICK
        assert ticks <= most, f"{which} {page}: {ticks} ticks of {TICK} instructions"
        if which == c.JobFilter(task="rare"):
            assert [job.seq for job in found[0].items] == _in(page, [1_050_000, 3_050_000, 6_050_000])
        if which == c.JobFilter(worker="rare"):
            assert [job.seq for job in found[0].items] == _in(page, [1_050_000, 3_050_000])


def _find(which: c.JobFilter, page: c.Page, found: list[c.JobPage], step: Step) -> Script[None]:
    found.append((yield from reads.find(step, which, page)))


def _in(page: c.Page, seqs: list[int]) -> list[int]:
    ended = [seq for seq in seqs if not page.by_end or seq < 2_000_000]
    return ended[::-1] if page.newest_first else ended
