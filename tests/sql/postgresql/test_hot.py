"""What the single statements of the hot path must not get wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from holdfast.job import commands as c
from holdfast.job.model import Instance, NewJob, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.stores.sql import open_postgresql
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.dialects.postgresql_upkeep import PostgresUpkeep
from tests.sql.postgresql.harness import DatabaseHarness
from tests.sql.postgresql.test_opening import run_sql


async def test_a_batch_with_stale_and_repeated_settles_ends_the_others_and_counts_each_once(h: DatabaseHarness) -> None:
    await h.add_many(6)
    claims = await h.claim(6)
    await h.store.settle([c.Settlement(claims[0], c.Succeeded(b"1"), 0.1)])
    h.clock.advance(100.0)
    await h.store.rescue()
    again = {claim.id: claim for claim in await h.claim(6, "i2")}
    settlements = [
        c.Settlement(claims[0], c.Succeeded(b"1"), 0.1),  # a repeat
        c.Settlement(claims[1], c.Succeeded(b"1"), 0.1),  # stale, beside the one that took over
        c.Settlement(claims[2], c.Succeeded(b"1"), 0.1),  # stale
        *(c.Settlement(claim, c.Succeeded(b"2"), 0.1) for claim in again.values() if claim.id != claims[2].id),
    ]
    answers = await h.store.settle(settlements)
    assert [str(one.accepted) for one in answers] == ["repeated", "stale", "stale", *["applied"] * 4]
    assert await h.state(claims[2].id) is State.RUNNING
    assert (await h.store.stats()).total(State.SUCCEEDED) == 5
    rows = await run_sql(h.url, "SELECT sum(n)::int FROM holdfast_stat WHERE outcome = 1")
    assert rows[0][0] == 5


async def test_a_claim_of_several_queues_takes_them_in_order_and_each_by_priority(h: DatabaseHarness) -> None:
    made = {}
    for queue in ("b", "a"):
        for priority in (0, 5, -5):
            made[queue, priority] = (await h.add(queue=queue, priority=priority)).id
    got = await h.claim_ids(5, queues=("a", "b"))
    assert got == [made["a", 5], made["a", 0], made["a", -5], made["b", 5], made["b", 0]]


async def test_two_who_purge_at_once_leave_as_many_as_the_queue_keeps(h: DatabaseHarness) -> None:
    await h.store.change_queue(c.ChangeQueue(name="default", create=True, keep_succeeded_count=10))
    await h.add_many(50)
    await h.run_all()
    other = DatabaseHarness(h.url, h.clock)
    await other.open()
    await asyncio.gather(*(store.rescue() for store in (h.store, other.store) for _ in range(3)))
    await other.close()
    assert (await h.store.stats()).total(State.SUCCEEDED) == 10
    assert h.faults() == []


async def test_plans_made_while_the_table_was_empty_read_no_more_of_it_when_it_is_full(h: DatabaseHarness) -> None:
    count = 3_000
    await h.add()
    await h.run_all()  # each hot statement has its plan now, and keeps it
    await run_sql(h.url, "SELECT pg_stat_reset()")
    await h.add_many(count)
    for _ in range(5):
        await h.store.settle([c.Settlement(claim, c.Succeeded(b"1"), 0.1) for claim in await h.claim(100)])
    await h.store.close()  # what a connection has counted is told when it ends
    table = "FROM pg_stat_user_tables WHERE relname = 'holdfast_job'"
    await run_sql(
        h.url,
        f"DO $$ BEGIN FOR look IN 1..600 LOOP EXIT WHEN (SELECT n_tup_del >= 500 {table});"
        " PERFORM pg_stat_clear_snapshot(), pg_sleep(0.05); END LOOP; END $$",
    )
    [[walked, ended]] = await run_sql(h.url, f"SELECT seq_tup_read, n_tup_del {table}")
    assert ended >= 500
    assert walked < count, "the whole table was read at least once"


KINDS: list[dict[str, Any]] = [
    {},
    {"priority": 7, "queue": "other"},
    {"task": "another", "tags": ("ä", "b"), "headers": b'{"a":1}', "timeout": 2.5},
    {"delay": 60.0},
    {"delay": -1.0},
    {"run_at": 1.0},
    {"run_at": 4e9, "retry": RetryPolicy(max_attempts=2)},
    {"on_wait": OnWait.PASS, "payload": b""},
    {"payload": "ö\n\\.\t".encode() * 2_000},
    {"id": "ünlike"},
    {"id": ""},
]


async def test_a_large_batch_stores_the_rows_that_small_ones_store(h: DatabaseHarness) -> None:
    """Its rows are copied into the table; what is left out there comes from the table's defaults."""
    for queue in ("default", "other"):
        await h.add(queue=queue)
    await run_sql(h.url, "DELETE FROM holdfast_job")
    names = [kind.get("id", f"{number:03}") for number, kind in enumerate(KINDS)]
    jobs = [
        NewJob(**{"task": "t", "payload": b"1", **kind, "id": name}) for name, kind in zip(names, KINDS, strict=True)
    ]
    more = [NewJob(id=f"more-{number}", task="t") for number in range(400)]
    text = "SELECT to_jsonb(j) - 'seq' - 'xmin' FROM holdfast_job AS j WHERE id NOT LIKE 'more-%' ORDER BY id"
    for new in jobs:
        await h.store.enqueue([new])
    alone = await run_sql(h.url, text)
    await run_sql(h.url, "DELETE FROM holdfast_job")
    answers = await h.store.enqueue([*more[:200], *jobs, *more[200:]])
    together = await run_sql(h.url, text)
    assert len(alone) == len(jobs)
    assert [row[0] for row in together] == [row[0] for row in alone]
    assert await h.store.jobs([one.id for one in answers]) == [one.job for one in answers]


async def test_numbers_that_do_not_follow_each_other_are_told_as_they_are(h: DatabaseHarness) -> None:
    """As when others take some between ours; a step of two makes that certain."""
    await h.add()
    await run_sql(h.url, "ALTER SEQUENCE holdfast_job_seq_seq INCREMENT 2")
    try:
        answers = await h.store.enqueue([h.new() for _ in range(3_500)])
    finally:
        await run_sql(h.url, "ALTER SEQUENCE holdfast_job_seq_seq INCREMENT 1")
    assert await h.store.jobs([one.id for one in answers]) == [one.job for one in answers]
    seqs = [one.job.seq for one in answers]
    assert seqs == list(range(seqs[0], seqs[0] + 7_000, 2)), "a number in between is somebody else's"


async def test_who_may_insert_and_not_take_numbers_stores_large_batches_all_the_same(h: DatabaseHarness) -> None:
    await h.add()
    who = "holdfast_inserter"
    await run_sql(h.url, f"CREATE ROLE {who} LOGIN")
    try:
        await run_sql(h.url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {who}")
        store = open_postgresql(h.url.replace("postgres@", f"{who}@"), clock=h.clock)
        await store.open()
        answers = await store.enqueue([h.new() for _ in range(400)])
        await store.close()
        assert [one.job for one in answers] == await h.store.jobs([one.id for one in answers])
    finally:
        await run_sql(h.url, f"DROP OWNED BY {who}")
        await run_sql(h.url, f"DROP ROLE {who}")


async def test_a_large_batch_into_a_second_queue_that_is_new_makes_it(h: DatabaseHarness) -> None:
    await h.add()
    await h.store.enqueue([h.new(queue="default" if number < 300 else "new") for number in range(400)])
    assert {queue.name for queue in await h.store.queues()} >= {"default", "new"}
    assert h.faults() == []


async def test_a_look_that_leaves_out_what_walks_sees_lost_processes_and_no_lease_of_others(h: DatabaseHarness) -> None:
    db = PostgresDialect("holdfast_", clock=h.clock)
    upkeep = PostgresUpkeep(db)

    async def found(*, whole: bool) -> tuple[bool, bool]:
        statement = upkeep.look(["default"], whole=whole)
        connection = await asyncpg.connect(h.url)
        rows = [tuple(row) for row in await connection.fetch(statement.sql, *statement.args)]
        await connection.close()
        looked = upkeep.looked(rows)
        return looked.work, looked.ready

    await h.add_many(2)
    await h.claim(1, "nobody")  # no process of this name was ever heard of
    h.clock.advance(100.0)
    assert await found(whole=True) == (True, True)
    assert await found(whole=False) == (False, False)
    await h.store.heartbeat(c.Beat(instance=Instance(id="i2", worker="w")))
    h.clock.advance(100.0)
    assert await found(whole=False) == (True, False)
