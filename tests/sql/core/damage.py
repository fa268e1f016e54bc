"""What must hold when somebody else has written into the tables, on any database: others go on, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from holdfast.job import commands as c
from holdfast.job.model import NewJob, QueueMode, Schedule, ScheduleStatus
from holdfast.job.state import State
from holdfast.testing.contract.harness import StoreHarness

GARBAGE = (b"\xff\x81", b"", b"\x81" * 5_000, bytes(range(256)))


async def write(h: StoreHarness, job_id: str, **columns: Any) -> None:
    """Write into a row past the store."""
    names = ", ".join(f"{name} = ?" for name in columns)

    def script(step: Any) -> Any:
        yield step.db.q(f"UPDATE {{job}} SET {names} WHERE id = ?", *columns.values(), job_id)
        yield step.db.q(f"UPDATE {{done}} SET {names} WHERE id = ?", *columns.values(), job_id)

    await h.store._write(script)  # type: ignore[attr-defined]


async def is_set_apart(h: StoreHarness, job_id: str, *told: str) -> None:
    """See that a job is a dead letter that tells what was wrong."""
    job = await h.job(job_id)
    assert (job.state, job.last and job.last.error_type) == (State.FAILED, "DamagedRow")
    for word in (*told, "not as Holdfast writes it"):
        assert word in job.error
    assert [one.id for one in (await h.store.find(c.JobFilter(states=(State.FAILED,)), c.Page())).items].count(
        job_id
    ) == 1


async def a_damaged_job_is_set_apart_and_the_others_are_claimed(h: StoreHarness) -> None:
    for column in ("policy", "rest"):
        for garbage in GARBAGE:
            jobs = [await h.add(tags=("x",)) for _ in range(3)]
            await write(h, jobs[1].id, **{column: garbage})
            claims = await h.claim(10)
            assert [one.id for one in claims] == [jobs[0].id, jobs[2].id]
            await is_set_apart(h, jobs[1].id, column, garbage[:8].hex())
            for claim in claims:
                await h.settle(claim)
    assert await h.claim(10) == ()
    assert (await h.store.stats()).total(State.FAILED) == 8


async def the_damaged_job_of_a_key_gives_way_to_the_next(h: StoreHarness) -> None:
    one, two = [await h.add(key="user:1") for _ in range(2)]
    await write(h, one.id, policy=b"\xff")
    assert await h.claim(10) == ()
    await is_set_apart(h, one.id, "policy")
    assert [claim.id for claim in await h.claim(10)] == [two.id]


async def a_damaged_job_is_set_apart_where_the_rules_claim(h: StoreHarness) -> None:
    one, two = [await h.add() for _ in range(2)]
    await h.store.change_queue(c.ChangeQueue(name=h.queue, mode=QueueMode.SERIAL))
    await write(h, one.id, rest=b"\xff", suspect=1, ready=2)
    await h.claim(10)
    await is_set_apart(h, one.id, "rest")
    assert [claim.id for claim in await h.claim(10)] == [two.id]


async def a_job_that_is_damaged_while_it_runs_is_ended_or_rescued(h: StoreHarness) -> None:
    done, lost = [await h.add() for _ in range(2)]
    claims = {claim.id: claim for claim in await h.claim(10)}
    await write(h, done.id, policy=b"\xff")
    await write(h, lost.id, policy=b"\xff", rest=b"\xff")
    settled = await h.settle(claims[done.id])
    assert settled.state is State.SUCCEEDED
    h.advance(1_000.0)
    assert (await h.store.rescue()).lost == 1
    assert (await h.job(lost.id)).state is State.QUEUED


async def what_is_due_comes_although_one_is_damaged(h: StoreHarness) -> None:
    one, two = [await h.add(delay=10.0, tags=("x",)) for _ in range(2)]
    await write(h, one.id, policy=b"\xff")
    h.advance(20.0)
    assert [claim.id for claim in await h.claim(10)] == [two.id]
    await is_set_apart(h, one.id, "policy")


async def lists_counts_and_actions_take_it_as_it_is(h: StoreHarness) -> None:
    jobs = [await h.add(tags=("x",)) for _ in range(3)]
    await write(h, jobs[1].id, policy=b"\xff", rest=b"\xff")
    page = await h.store.find(c.JobFilter(), c.Page())
    assert [job.id for job in page.items] == [job.id for job in reversed(jobs)]
    assert b"damaged_row" in page.items[1].data
    assert b"ff" in page.items[1].data
    assert await h.store.count(c.JobFilter(tag="x")) == 2
    which = c.Selection(filter=c.JobFilter())
    assert (await h.store.control(c.Order(action=c.Cancel(), selection=which, who="ann"))).done == 3
    assert (await h.job(jobs[1].id)).state is State.CANCELED


async def a_damaged_attempt_is_shown_as_one(h: StoreHarness) -> None:
    job = await h.add()
    await h.settle(await h.claim_one(), c.Failed(c.ErrorInfo("E", "no"), retry_in=0.0))

    def script(step: Any) -> Any:
        yield step.db.q("UPDATE {attempt} SET body = ?", b"\xff")

    await h.store._write(script)  # type: ignore[attr-defined]
    claim = await h.claim_one()
    assert claim.item.past[0].error_type == "DamagedRow"
    await h.settle(claim)
    assert (await h.job(job.id)).state is State.SUCCEEDED


async def a_dead_letter_of_damage_may_be_retried(h: StoreHarness) -> None:
    job = await h.add(payload=b'{"n":1}')
    await write(h, job.id, policy=b"\xff")
    assert await h.claim(10) == ()
    await h.done(c.Retry(), job.id)
    claim = await h.claim_one()
    assert (claim.id, claim.item.payload) == (job.id, b'{"n":1}')
    await h.settle(claim)


async def write_thing(h: StoreHarness, table: str, column: str, name: str, **columns: Any) -> None:
    """Write into the row of a queue, a definition or a schedule past the store."""
    names = ", ".join(f"{one} = ?" for one in columns)

    def script(step: Any) -> Any:
        yield step.db.q(f"UPDATE {{{table}}} SET {names} WHERE {column} = ?", *columns.values(), name)

    await h.store._write(script)  # type: ignore[attr-defined]


async def a_queue_that_can_not_be_read_goes_on_by_its_columns(h: StoreHarness) -> None:
    other = f"{h.queue}-other"
    for garbage in GARBAGE:
        await h.add()
        await h.store.enqueue([NewJob(id=f"other-{len(garbage)}", task="t", queue=other)])
        await write_thing(h, "queue", "name", h.queue, body=garbage)
        shown = {queue.name: queue for queue in await h.store.queues()}
        assert (shown[h.queue].paused, shown[h.queue].paused_by, shown[other].paused_by) == (False, "DamagedRow", "")
        assert garbage[:8].hex() in shown[h.queue].paused_why
        claims = await h.claim(10)
        assert len(claims) == 1
        await h.settle(claims[0])
        h.advance(30 * 86_400.0)
        await h.store.rescue()
        want = c.Want(queues=(c.QueueWant(other, 10),), limit=10, instance="i", worker="w")
        for claim in (await h.store.claim(want)).items:
            await h.settle(claim)
    # Nobody can tell how long its jobs are to be kept.
    assert await h.store.count(c.JobFilter(queue=h.queue, states=(State.SUCCEEDED,))) == len(GARBAGE)
    assert await h.store.count(c.JobFilter(queue=other, states=(State.SUCCEEDED,))) < len(GARBAGE)
    changed = await h.store.change_queue(c.ChangeQueue(name=h.queue, mode=QueueMode.SERIAL))
    assert (changed.mode, changed.keep_succeeded) == (QueueMode.SERIAL, None)


async def a_definition_that_can_not_be_read_stops_no_other(h: StoreHarness) -> None:
    await h.store.define([c.Define(alias="t"), c.Define(alias="u")])
    await write_thing(h, "definition", "alias", "u", body=b"\xff")
    await h.add()
    await h.store.change_queue(c.ChangeQueue(name=h.queue, mode=QueueMode.SERIAL))
    shown = {one.alias: one for one in await h.store.definitions(c.DefinitionFilter())}
    assert shown["u"].description.startswith("DamagedRow: ")
    await write_thing(h, "job", "task", "t", suspect=1, ready=2)  # so that the rules claim, which read all definitions
    assert len(await h.claim(10)) == 1


async def a_schedule_that_can_not_be_read_fires_no_more_and_stops_no_other(h: StoreHarness) -> None:
    await h.store.define([c.Define(alias="t")])
    for name in ("one", "two"):
        schedule = Schedule(name=name, rule="every 10m", task="t", status=ScheduleStatus.ACTIVE)
        await h.store.save_schedule(schedule)
    await write_thing(h, "schedule", "name", "one", body=b"\xff")
    one, two = await h.store.schedules()
    assert (one.status, one.description[:12], two.status) == (
        ScheduleStatus.INACTIVE,
        "DamagedRow: ",
        ScheduleStatus.ACTIVE,
    )


CASES = (
    a_damaged_job_is_set_apart_and_the_others_are_claimed,
    the_damaged_job_of_a_key_gives_way_to_the_next,
    a_damaged_job_is_set_apart_where_the_rules_claim,
    a_job_that_is_damaged_while_it_runs_is_ended_or_rescued,
    what_is_due_comes_although_one_is_damaged,
    lists_counts_and_actions_take_it_as_it_is,
    a_damaged_attempt_is_shown_as_one,
    a_dead_letter_of_damage_may_be_retried,
    a_queue_that_can_not_be_read_goes_on_by_its_columns,
    a_definition_that_can_not_be_read_stops_no_other,
    a_schedule_that_can_not_be_read_fires_no_more_and_stops_no_other,
)


class Damage:
    """The tests of a database, on stores that `harness` makes."""

    harness: Callable[[], Any]

    @pytest.fixture
    async def h(self) -> AsyncIterator[StoreHarness]:
        made = self.harness()
        await made.open()
        yield made
        faults = made.faults()
        await made.close()
        assert faults == []

    @pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
    async def test_a_row_that_can_not_be_read_stops_nothing(
        self, h: StoreHarness, case: Callable[[StoreHarness], Coroutine[Any, Any, None]]
    ) -> None:
        await case(h)
