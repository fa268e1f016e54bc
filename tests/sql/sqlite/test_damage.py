"""Somebody else has written into the tables."""

from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.testing.contract.harness import StoreHarness
from tests.sql.core.damage import Damage, is_set_apart, write, write_thing
from tests.sql.sqlite.harness import SqliteHarness


class TestDamage(Damage):
    harness = SqliteHarness

    async def test_a_value_of_another_kind_in_a_column_is_damage_too(self, h: StoreHarness) -> None:
        for column, value in (
            ("payload", "no bytes"), ("attempt", "x"), ("token", b"\xff"), ("queued_at", "x"), ("created_at", "now"),
            ("prio", b"a"),
        ):  # fmt: skip
            jobs = [await h.add() for _ in range(3)]
            await write(h, jobs[1].id, **{column: value})
            claims = await h.claim(10)
            assert [one.id for one in claims] == [jobs[0].id, jobs[2].id], column
            await is_set_apart(h, jobs[1].id, column)
            for claim in claims:
                await h.settle(claim)
        assert await h.claim(10) == ()

    async def test_a_queue_whose_columns_make_no_sense_waits_and_the_others_go_on(self, h: StoreHarness) -> None:
        for column, value in (("paused", "x"), ("fleet_limit", "x"), ("rescue_after", b"\xff")):
            await h.store.enqueue([NewJob(id=f"{column}-{name}", task="t", queue=name) for name in (h.queue, column)])
            await write_thing(h, "queue", "name", column, **{column: value})
            want = c.Want(
                queues=(c.QueueWant(column, 10), c.QueueWant(h.queue, 10)), limit=10, instance="i", worker="w"
            )
            claims = (await h.store.claim(want)).items
            assert [claim.id for claim in claims] == [f"{column}-{h.queue}"]
            [shown] = [queue for queue in await h.store.queues() if queue.name == column]
            assert (shown.paused, shown.paused_by) == (True, "DamagedRow")
            for claim in claims:
                await h.settle(claim)
