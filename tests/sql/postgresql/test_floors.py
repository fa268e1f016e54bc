"""Claims that begin where the last one ended, while places of jobs that are gone can not be cleared away."""

from __future__ import annotations

import json

import asyncpg

from holdfast.job import commands as c
from holdfast.stores.sql.dialects.postgresql_floors import (
    EVER,
    HIGHEST,
    LONG,
    LOWEST,
    MARGIN,
    REST,
    REST_MAX,
    Floors,
    Range,
)
from holdfast.stores.sql.postgresql import PostgresStore
from tests.features import feature
from tests.sql.core.dialogue import want
from tests.sql.postgresql.harness import DatabaseHarness

AT = 1_000_000_000
LONG_WALK = 10 * LONG
ALL = (Range(LOWEST, EVER, HIGHEST),)


def learned(*ends: tuple[int, int, bool], walk: int = LONG_WALK, full: bool = True) -> Floors:
    """What is known after these claims of queue "q", each full and long unless said."""
    floors = Floors()
    for end in ends:
        floors.claimed({"q": end}, at=AT, walk=walk, found=1, now=0.0, full=full)
    return floors


# --- what is known -------------------------------------------------------------------------------------------------


def test_while_walks_are_short_every_claim_looks_everywhere() -> None:
    floors = learned((0, 5, False), (0, 6, False), walk=LONG)
    assert floors.ranges(["q"], 0.0) is None


def test_one_long_walk_is_no_reason_and_two_in_a_row_are() -> None:
    assert learned((0, 5, False)).ranges(["q"], 0.0) is None
    found = learned((0, 5, False), (0, 7, False)).ranges(["q", "other"], 0.0)
    assert found == {
        "q": (Range(LOWEST, EVER, -1), Range(0, 7, 0), Range(1, EVER, HIGHEST)),
        "other": ALL,
    }


def test_a_full_walk_is_due_again_after_twenty_times_its_length() -> None:
    floors = learned((0, 5, False), (0, 7, False))
    rest = REST * LONG_WALK / 1e6
    assert floors.ranges(["q"], rest - 0.001) is not None
    assert floors.ranges(["q"], rest) is None
    endless = learned((0, 5, False), (0, 7, False), walk=1_000_000_000)
    assert endless.ranges(["q"], REST_MAX) is None


def test_higher_priorities_are_looked_at_from_just_before_the_last_claim() -> None:
    floors = learned((-5, 1, False), (0, 7, False))
    floors.claimed({"q": (0, AT, False)}, at=AT, walk=0, found=1, now=0.0, full=False)
    found = floors.ranges(["q"], 0.0)
    assert found is not None
    # Of the highest nothing is left; who enqueued a moment ago and has not committed yet is not passed by.
    assert Range(-5, AT - MARGIN, -5) in found["q"]
    assert Range(0, AT - MARGIN, 0) in found["q"]


def test_a_queue_that_gave_all_it_had_is_passed_in_every_priority() -> None:
    floors = learned((3, 1, False), (3, 2, False))
    floors.claimed({"q": (-2, 9, True)}, at=AT, walk=0, found=1, now=0.0, full=False)
    found = floors.ranges(["q"], 0.0)
    assert found is not None
    assert found["q"] == (
        Range(LOWEST, EVER, -3),
        Range(-2, AT - MARGIN, -2),
        Range(-1, EVER, 2),
        Range(3, AT - MARGIN, 3),
        Range(4, EVER, HIGHEST),
    )


def test_a_full_walk_forgets_what_was_known_of_lower_priorities() -> None:
    floors = learned((3, 2, False), (-2, 9, False))
    found = floors.ranges(["q"], 0.0)
    assert found == {"q": (Range(LOWEST, EVER, -3), Range(-2, 9, -2), Range(-1, EVER, HIGHEST))}


def test_the_ranges_of_a_queue_leave_no_priority_out() -> None:
    floors = learned(*((prio, prio, True) for prio in (4, -3, 0, 1, 4)))
    found = floors.ranges(["q"], 0.0)
    assert found is not None
    first = LOWEST
    for part in found["q"]:
        assert part.first == first
        first = part.last + 1
    assert first == HIGHEST + 1


# --- on a database -------------------------------------------------------------------------------------------------


def begin_there(h: DatabaseHarness, *queues: str) -> Floors:
    """Let the next claims begin where the last ended, as if its walk had been long."""
    store = h.store
    assert isinstance(store, PostgresStore)
    for name in queues:
        store._fast.floors._lines[name].until = float("inf")
    return store._fast.floors


async def test_claims_by_parts_take_the_same_jobs_in_the_same_order(h: DatabaseHarness) -> None:
    made: dict[tuple[str, int], list[str]] = {}
    for number in range(40):
        place = ("b" if number % 3 else "a", (number % 5) - 2)
        made.setdefault(place, []).append((await h.add(queue=place[0], priority=place[1])).id)
        h.clock.advance(0.5)
    expected = [
        job_id
        for queue in ("a", "b")
        for (name, _), ids in sorted(made.items(), key=lambda item: -item[0][1])
        if name == queue
        for job_id in ids
    ]
    got = await h.claim_ids(3, queues=("a", "b"))
    while len(got) < len(expected):
        begin_there(h, *({"a"} if len(got) < 14 else {"a", "b"}))
        got += await h.claim_ids(3, queues=("a", "b"))
    assert got == expected


async def test_jobs_that_come_after_a_claim_by_parts_are_found_in_any_priority(h: DatabaseHarness) -> None:
    await h.add_many(4)
    await h.claim(2)
    begin_there(h, "default")
    h.clock.advance(10.0)
    urgent, late = (await h.add(priority=7)).id, (await h.add(priority=-7)).id
    begin_there(h, "default")
    got = await h.claim_ids(10)
    assert (got[0], got[-1], len(got)) == (urgent, late, 4)


async def test_a_job_that_is_given_back_in_its_old_place_is_found_at_once(h: DatabaseHarness) -> None:
    for _ in range(3):
        await h.add()
        h.clock.advance(10.0)
    [first, *_] = await h.claim(2)
    begin_there(h, "default")
    await h.settle(first, c.Released("stop"))
    assert await h.claim_ids(1) == [first.id]


@feature("T16")
async def test_a_snapshot_that_is_kept_does_not_make_each_claim_walk_past_what_is_gone(h: DatabaseHarness) -> None:
    pinned = await asyncpg.connect(h.url)
    await pinned.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM holdfast_job")
    try:
        await h.add_many(3_000)
        for _ in range(3):
            await h.store.settle([c.Settlement(claim, c.Succeeded(b"1"), 0.1) for claim in await h.claim(1_000)])
        h.clock.advance(10.0)  # so that no enqueue can still be under way
        await h.add_many(20)
        await h.claim(10)
        floors = begin_there(h, "default")
        everywhere = await pages_of_a_claim(h, None)
        there = await pages_of_a_claim(h, floors.ranges(["default"], 0.0))
    finally:
        await pinned.close()
    assert there * 3 < everywhere, (there, everywhere)


async def pages_of_a_claim(h: DatabaseHarness, parts: dict[str, tuple[Range, ...]] | None) -> int:
    """How many pages a claim of one job touches."""
    assert isinstance(h.store, PostgresStore)
    statement = h.store._fast._claim_statement(want("default", "i2", 1), ["default"], parts)
    connection = await asyncpg.connect(h.url)
    try:
        await connection.execute("BEGIN; SET LOCAL enable_seqscan = off")
        text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}"
        [found] = json.loads(await connection.fetchval(text, *statement.args))
        return int(found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"])
    finally:
        await connection.close()
