"""Claims of a pod find its keys, and those without an owner, by index: keys of others cost them nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from holdfast.chance import SystemDraw
from holdfast.clock import ManualClock
from holdfast.job import commands as c
from holdfast.job.model import Instance, InstanceState
from holdfast.stores.sql.claims import _take_own
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.links import look
from holdfast.stores.sql.script import Script, Step
from tests.features import feature
from tests.sql.postgresql.harness import DatabaseHarness, empty_database
from tests.sql.postgresql.test_plans import nodes

CROWD: Final = 10_000
PODS: Final = 50
MINE: Final = 10
#: Pages that the statements of one claim may touch.
PAGES: Final = 400
ME: Final = "me"
WANT: Final = c.Want(queues=(c.QueueWant("default", 100),), limit=100, instance=ME, worker="w", pod=0, sticky=("chat",))
#: Ready jobs like one of ours: of a service that this process has not, without an owner; and of other processes.
_CROWD: Final = """
CREATE TEMPORARY TABLE one AS SELECT * FROM holdfast_job ORDER BY seq LIMIT 1;
UPDATE one SET ready = 3, uniq = NULL;
INSERT INTO holdfast_job OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(one, jsonb_build_object('seq', 1000000 + n, 'id', 'far-' || n, 'lane_key', 'far-' || n,
        'sticky', 'far', 'owner', '@far'))).* FROM one, generate_series(1, {crowd}) AS n;
INSERT INTO holdfast_job OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(one, jsonb_build_object('seq', 2000000 + n, 'id', 'pod-' || n, 'lane_key', 'pod-' || n,
        'sticky', 'chat', 'owner', 'pod-' || (n % {pods})))).* FROM one, generate_series(1, {crowd}) AS n;
INSERT INTO holdfast_link (service, lane_key, pod, instance, epoch)
SELECT sticky, lane_key, seq % {pods}, owner, 1 FROM holdfast_job WHERE seq > 2000000
"""


@pytest.fixture(params=["no statistics", "fresh statistics"])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection]:
    """A database with a few keys of ours and of nobody, and many of others."""
    url = empty_database()
    h = DatabaseHarness(url)
    await h.open()
    for name in (ME, *(f"pod-{n}" for n in range(PODS))):
        record = Instance(id=name, worker="w", state=InstanceState.READY, lease=600.0)
        await h.store.heartbeat(c.Beat(instance=record, lease=600.0))
    for n in range(2 * MINE):
        await h.add(key=f"u{n}", sticky="chat", queue="default")
    await h.store.bind([c.KeyLink("chat", f"u{n}", 0, ME, 1) for n in range(MINE)])
    await h.close()
    with psycopg.connect(url, autocommit=True) as direct:
        direct.execute(_CROWD.format(crowd=CROWD, pods=PODS))
        if request.param == "fresh statistics":
            direct.execute("ANALYZE")
    made = await asyncpg.connect(url, statement_cache_size=0)
    yield made
    await made.close()


class Taken:
    """What a script found."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def take(self, rows: list[Any]) -> None:
        """Keep rows."""
        self.rows += rows


async def explained(connection: asyncpg.Connection, script: Script[Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Run a script that only reads; return its answer and the plans of its statements."""
    plans: list[dict[str, Any]] = []
    rows: Any = None  # a script begins with nothing
    while True:
        try:
            statement = script.send(rows)
        except StopIteration as over:
            return over.value, plans
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}"
        plans.append(json.loads(await connection.fetchval(text, *statement.args))[0]["Plan"])
        rows = [tuple(row) for row in await connection.fetch(statement.sql, *statement.args)]


@feature("T16")
@pytest.mark.parametrize("mode", ["force_generic_plan", "auto"])
async def test_keys_of_others_and_of_unknown_services_cost_a_pod_nothing(
    connection: asyncpg.Connection, mode: str
) -> None:
    await connection.execute(f"SET plan_cache_mode = {mode}")
    clock = ManualClock()
    step = Step(PostgresDialect("holdfast_", "", clock), SystemDraw(clock, seed=1))
    taken: Any = Taken()
    async with connection.transaction():
        (mine, ownerless), looked = await explained(connection, look(step, WANT))
        _, took = await explained(connection, _take_own(step, taken, ME, {"default": 100}))
    assert mine
    assert {link.key for link in ownerless} == {f"u{n}" for n in range(MINE, 2 * MINE)}
    assert len(taken.rows) == MINE
    for plan in (*looked, *took):
        walked = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not walked & {"holdfast_job", "holdfast_link"}, json.dumps(plan, indent=1)
    touched = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in (*looked, *took))
    assert touched <= PAGES, [json.dumps(plan, indent=1) for plan in (*looked, *took)]
