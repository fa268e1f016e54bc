"""The hot statements find their rows by the indexes made for them, whatever the statistics say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final

import asyncpg
import pytest

from holdfast.clock import ManualClock
from holdfast.job import commands as c
from holdfast.job.ledger.query import with_final_states
from holdfast.job.model import Attempt, Instance, Job, NewJob
from holdfast.job.state import FINAL, State
from holdfast.stores.sql import counting, figures, past, reads
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.dialects.postgresql_texts import kind as group
from holdfast.stores.sql.dialects.postgresql_upkeep import PostgresUpkeep
from holdfast.stores.sql.script import Script, Statement, Step
from holdfast.testing.contract.harness import FIXED
from tests.features import feature
from tests.sql.core.dialogue import want
from tests.sql.postgresql.harness import template
from tests.support.servers.postgres import PostgresServer

BATCH: Final = 100
NOW: Final = 2_000_000_000_000_000
#: Finished, future and ready jobs: the promise, and a slice of it.
FULL: Final = (1_000_000, 1_000_000, 100_000)
SLICE: Final = (30_000, 30_000, 3_000)

_LIVE: Final = """
INSERT INTO holdfast_job (id, payload, queue, task, prio, state, ready, run_at, created_at, queued_at, updated_at, lane,
                          pod_epoch, suspect, attempt, token, worker, version, lease_until, cancel_asked, instance,
                          started_at)
SELECT '{name}-' || n, repeat('x', 100)::bytea, 'default', 't', n % 3 - 1, {state}, {ready}, {run_at} + n, 1, 1, 1, 0,
       0, 0, {attempt}, {attempt}, 'w', '', {lease}, 0, {instance}, 1
  FROM generate_series(1, {count}) AS n
"""
_DONE: Final = f"""
INSERT INTO holdfast_done (seq, id, payload, queue, task, prio, state, ready, run_at, created_at, queued_at, updated_at, lane,
                           pod_epoch, suspect, attempt, token, worker, version, lease_until, cancel_asked, finished_at,
                           instance, started_at, kind)
SELECT 1000000000 + n, 'done-' || n, repeat('x', 100)::bytea, 'default', 't', 0, 6, 0, n, 1, 1, 1, 0, 0, 0, 1, 1, 'w', '',
       0, 0, n, 'i0', 1, {group("'default'", "'t'", "'w'", "6::smallint")} FROM generate_series(1, {{count}}) AS n
"""


def fill(server: PostgresServer, database: str, sizes: tuple[int, int, int]) -> None:
    """Store finished, future, ready and some running jobs, by statements of its own."""
    finished, future, ready = sizes
    common = {"attempt": 0, "lease": 0, "instance": "NULL"}
    kinds = [
        {**common, "name": "future", "state": 1, "ready": 0, "run_at": NOW, "count": future},
        {**common, "name": "ready", "state": 2, "ready": 1, "run_at": 1, "count": ready},
        {
            "name": "run",
            "state": 3,
            "ready": 0,
            "run_at": 1,
            "count": 500,
            "attempt": 1,
            "lease": NOW,
            "instance": "'i1'",
        },
    ]
    text = _DONE.format(count=finished) + ";" + ";".join(_LIVE.format(**kind) for kind in kinds)
    server.sql(
        f"{text}; INSERT INTO holdfast_queue VALUES ('default', 0, NULL, NULL, '\\x81a46e616d65a764656661756c74'::bytea);"
        "INSERT INTO holdfast_tally (queue, task, worker, state, shard, n, timed, took)"
        f" VALUES ('default', 't', 'w', 6, 0, {finished}, 0, 0)",
        database,
    )


def statistics(server: PostgresServer, database: str, kind: str) -> None:
    """Let the planner know what it often knows: the truth, nothing, or what was true before."""
    tables = ("holdfast_job", "holdfast_done")
    if kind == "fresh":
        server.sql("".join(f"ANALYZE {table};" for table in tables), database)
    if kind == "of empty tables":
        keep = "CREATE TABLE keep_{0} AS SELECT * FROM {0}; TRUNCATE {0}; ANALYZE {0};"
        back = "INSERT INTO {0} SELECT * FROM keep_{0}; DROP TABLE keep_{0};"
        server.sql("".join(keep.format(table) for table in tables), database)
        server.sql("".join(back.format(table) for table in tables), database)
    if kind == "of before all ran":
        server.sql("UPDATE holdfast_job SET state = 2, ready = 1 WHERE state = 1; ANALYZE holdfast_job", database)
        server.sql("UPDATE holdfast_job SET state = 1, ready = 0 WHERE id LIKE 'future%'", database)


KINDS: Final = ("none", "fresh", "of empty tables", "of before all ran")


def filled(server: PostgresServer, sizes: tuple[int, int, int]) -> Iterator[dict[str, str]]:
    """A database for each state of the statistics. Nothing is analysed or vacuumed by itself."""
    server.sql("ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()")
    made = {}
    for kind in KINDS:
        url = server.create_database(template=template())
        database = url.partition("@/")[2].partition("?")[0]
        fill(server, database, sizes)
        statistics(server, database, kind)
        made[kind] = url
    yield made
    for url in made.values():
        server.sql(f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]}")
    server.sql("ALTER SYSTEM RESET autovacuum; SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def slices(own_server: PostgresServer) -> Iterator[dict[str, str]]:
    yield from filled_apart(own_server, SLICE)


@pytest.fixture(scope="module")
def whole(own_server: PostgresServer) -> Iterator[dict[str, str]]:
    yield from filled_apart(own_server, FULL)


def filled_apart(server: PostgresServer, sizes: tuple[int, int, int]) -> Iterator[dict[str, str]]:
    """The same on the module's own server, whose template has to be made first."""
    from tests.sql.postgresql.harness import migrate

    migrate(server.create_database("with_tables"))
    yield from filled(server, sizes)


# --- looking at plans ----------------------------------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


class Looking:
    """Explains statements as the store sends them, in a transaction that is rolled back."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.db = PostgresDialect("holdfast_", "", ManualClock())
        self.step = Step(self.db, None)  # type: ignore[arg-type]  # nothing is drawn

    async def explain(self, statement: Statement, *, generic: bool) -> dict[str, Any]:
        """Run a statement and return its plan, with what each node touched."""
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            mode = "force_generic_plan" if generic else "auto"
            await self.connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}"
            plan: dict[str, Any] = json.loads(await self.connection.fetchval(text, *statement.args))[0]["Plan"]
            return plan
        finally:
            await transaction.rollback()

    async def read_at_most(self, make: Callable[[Step], Script[Any]], rows_max: int) -> None:
        """Run a script; none of its statements may read more rows of a table."""
        script = make(self.step)
        rows: Any = None
        while True:
            try:
                statement = script.send(rows)
            except StopIteration:
                return
            plan = await self.explain(statement, generic=False)
            for node in nodes(plan):
                if "Relation Name" in node:
                    read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    assert read <= rows_max, json.dumps(plan, indent=1)
            rows = [tuple(row) for row in await self.connection.fetch(statement.sql, *statement.args)]

    async def walked(self, make: Callable[[Step], Script[Any]]) -> set[str]:
        """Run a script; return the tables that its statements read from, whole or by an index."""
        script, touched = make(self.step), set[str]()
        rows: Any = None
        while True:
            try:
                statement = script.send(rows)
            except StopIteration:
                return touched
            plan = await self.explain(statement, generic=False)
            touched |= {node["Relation Name"] for node in nodes(plan) if "Relation Name" in node}
            rows = [tuple(row) for row in await self.connection.fetch(statement.sql, *statement.args)]

    def claim(self) -> Statement:
        return next(self.db.hot.claim_plain(self.step, want("default", "i9", BATCH)))

    def claim_of_two_queues(self) -> Statement:
        wanted = c.Want(queues=(c.QueueWant("other", 10), c.QueueWant("default", BATCH)), limit=BATCH, instance="i9")
        return next(self.db.hot.claim_plain(self.step, wanted))

    async def settle(self) -> Statement:
        rows = await self.connection.fetch("SELECT seq, id, token FROM holdfast_job WHERE state = 3 LIMIT $1", BATCH)
        settlements = []
        for seq, job_id, token in rows:
            job = Job(seq=seq, id=job_id, task="t", queue="default", last=Attempt(1, token, "i1", "w", 1.0))
            claim = c.Claim(job, job_id, "t", "default", token, 1, 0.0, seq)
            settlements.append(c.Settlement(claim, c.Succeeded(b"1"), 0.1))
        return next(self.db.hot.succeed(self.step, settlements, range(len(settlements))))

    def enqueue(self) -> Statement:
        new = [NewJob(id=f"new-{number}", task="t", retry=FIXED) for number in range(BATCH)]
        return next(self.db.hot.enqueue_plain(self.step, new))

    def look(self) -> Statement:
        return PostgresUpkeep(self.db).look(["default"])

    def beat(self) -> Statement:
        upkeep = PostgresUpkeep(self.db)
        return upkeep.beat_of(c.Beat(instance=Instance(id="i1", worker="w")), b"")


@pytest.fixture
async def looking(request: pytest.FixtureRequest) -> AsyncIterator[Looking]:
    made = request.getfixturevalue("slices" if request.node.get_closest_marker("soak") is None else "whole")
    connection = await asyncpg.connect(made[request.param], statement_cache_size=0)
    yield Looking(connection)
    await connection.close()


def check(plan: dict[str, Any], index: str, touched_max: int) -> None:
    """The plan uses an index, walks through no table of jobs, and touches no more than so many pages."""
    found = list(nodes(plan))
    walked = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
    assert not {"holdfast_job", "holdfast_done"} & set(walked), json.dumps(plan, indent=1)
    assert index in {node.get("Index Name") for node in found}, json.dumps(plan, indent=1)
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= touched_max, f"{touched} pages: {json.dumps(plan, indent=1)}"


class Plans:
    @feature("T16")
    @pytest.mark.parametrize("generic", [False, True])
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_claim_walks_along_the_ready_jobs_alone(self, looking: Looking, generic: bool) -> None:
        for statement in (looking.claim(), looking.claim_of_two_queues()):
            plan = await looking.explain(statement, generic=generic)
            check(plan, "holdfast_job_ready", BATCH * 60)
            picked = next(node for node in nodes(plan) if node.get("Index Name") == "holdfast_job_ready")
            assert picked["Actual Rows"] * picked["Actual Loops"] <= BATCH + 1
            due = [node for node in nodes(plan) if node.get("Index Name") == "holdfast_job_due"]
            assert all(node["Actual Rows"] <= 1 for node in due), json.dumps(plan, indent=1)

    @pytest.mark.parametrize("generic", [False, True])
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_settle_finds_its_jobs_by_their_numbers(self, looking: Looking, generic: bool) -> None:
        plan = await looking.explain(await looking.settle(), generic=generic)
        check(plan, "holdfast_job_pkey", BATCH * 60)

    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_an_enqueue_costs_the_same_whatever_is_stored(self, looking: Looking) -> None:
        plan = await looking.explain(looking.enqueue(), generic=True)
        walked = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not walked & {"holdfast_job", "holdfast_done"}
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= BATCH * 60

    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_looks_and_beats_touch_running_and_due_jobs_alone(self, looking: Looking) -> None:
        check(await looking.explain(looking.look(), generic=True), "holdfast_job_running", 1_200)
        check(await looking.explain(looking.beat(), generic=True), "holdfast_job_running", 500 * 60)

    @feature("H4")
    @pytest.mark.parametrize("generic", [False, True])
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_page_is_found_by_the_indexes_of_lists_however_rare_what_it_shows(
        self, looking: Looking, generic: bool
    ) -> None:
        await looking.connection.execute("SET enable_seqscan = off")  # as the driver has it
        for which in RARE:
            for newest_first in (True, False):
                for after in (None, 1_000_000_100 if newest_first else 100):
                    statement = looking.db.listed(which, after, 51, newest_first=newest_first)
                    assert statement is not None, which
                    plan = await looking.explain(statement, generic=generic)
                    check(plan, "holdfast_job_list", 1_500)

    @feature("H4")
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_page_in_the_order_of_ends_is_found_by_an_index_too(self, looking: Looking) -> None:
        await looking.connection.execute("SET enable_seqscan = off")
        for which in (*ENDED, c.JobFilter(states=tuple(FINAL))):
            for newest_first in (True, False):
                for after in (None, (15_000, 1_000_015_000)):
                    statement = looking.db.listed_by_end(
                        with_final_states(which) or which, after, 51, newest_first=newest_first, columns="seq"
                    )
                    assert statement is not None, which
                    plan = await looking.explain(statement, generic=True)
                    if which.key is None:
                        check(plan, "holdfast_done_id" if which.id else "holdfast_done_ended", 500)
                    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 500, which

    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_retention_reads_little_more_than_it_purges(self, looking: Looking) -> None:
        upkeep = PostgresUpkeep(looking.db)
        await looking.connection.execute("SET enable_seqscan = off")
        args = ("default", NOW, 0, BATCH, 0, NOW)
        check(await looking.explain(Statement(upkeep._prune, args), generic=True), "holdfast_done_ended", BATCH * 60)
        statement = next(looking.db.oldest(looking.step, "default", 6, NOW, BATCH))
        check(await looking.explain(statement, generic=True), "holdfast_done_ended", BATCH * 20)
        check(await looking.explain(looking.db.ended_in("default", BATCH), generic=True), "holdfast_done_ended", 500)

    @pytest.mark.parametrize("generic", [False, True])
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_count_reads_no_more_of_a_group_than_it_is_exact_to(self, looking: Looking, generic: bool) -> None:
        await looking.connection.execute("SET enable_seqscan = off")  # as the driver has it
        looking.db.count_exact = 500
        looking.step.db.count_exact = 500
        for named in ([], [("queue", "default")], [("queue", "default"), ("task", "none")], [("worker", "w")]):
            plan = await looking.explain(looking.db.groups_live(named), generic=generic)
            check(plan, "holdfast_job_list", 8_000)
            for node in nodes(plan):
                if node.get("Index Name") == "holdfast_job_list":
                    assert node["Actual Rows"] <= 501, json.dumps(plan, indent=1)

    @feature("H5")
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_a_count_by_any_column_stops_where_it_is_not_exact_any_more(self, looking: Looking) -> None:
        await looking.connection.execute("SET enable_seqscan = off")
        looking.step.db.count_exact = 500
        for which in (c.JobFilter(created_after=0.0), c.JobFilter(deleted=True)):
            await looking.read_at_most(partial(counting.count, which=which), 1_000)

    @feature("H8", "H9")
    @pytest.mark.parametrize("looking", KINDS, indirect=True)
    async def test_figures_read_no_job_that_has_ended(self, looking: Looking) -> None:
        for make in FIGURES:
            touched = await looking.walked(make)
            assert "holdfast_done" not in touched, touched


#: What pages of ended jobs are asked for by.
ENDED: Final = (
    c.JobFilter(states=(State.FAILED,)),
    c.JobFilter(queue="default"),
    c.JobFilter(queue="none"),
    c.JobFilter(task="none"),
    c.JobFilter(task="t"),
    c.JobFilter(worker="none"),
    c.JobFilter(worker="w"),
    c.JobFilter(key="none"),
    c.JobFilter(id="done-7"),
    c.JobFilter(id="none"),
)
#: Everything that a page of statistics shows, and counts by what the tally knows.
FIGURES: Final = (
    reads.stats,
    reads.records,
    lambda step: past.job_figures(step, ""),
    lambda step: past.job_figures(step, "w"),
    lambda step: past.hour_figures(step, "", 0),
    lambda step: past.hour_figures(step, "w", 0),
    lambda step: figures.counted(step, 3_600, 0, None, None),
    lambda step: figures.counted(step, 60, 0, "default", "t"),
    lambda step: counting.count(step, c.JobFilter()),
    lambda step: counting.count(step, c.JobFilter(task="t", worker="w", states=(State.SUCCEEDED,))),
)

#: Filters that few or none of the jobs match, and the commonest.
RARE: Final = (
    c.JobFilter(states=(State.FAILED, State.PAUSED)),
    c.JobFilter(states=(State.SUCCEEDED, State.SCHEDULED)),
    c.JobFilter(queue="none"),
    c.JobFilter(task="none"),
    c.JobFilter(worker="none"),
    c.JobFilter(worker="w", states=(State.CANCELED, State.RETRYING)),
    c.JobFilter(queue="default", task="none", states=(State.SUCCEEDED, State.QUEUED)),
)


class TestSlice(Plans):
    pass


@pytest.mark.soak
class TestWhole(Plans):
    pass
