"""Which job killed its process? Innocents that shared a dead process must not be condemned with it."""

from __future__ import annotations

from holdfast.job.commands import Crashed, Failed, Released, Snoozed, Succeeded
from holdfast.job.model import CRASHES_MAX
from holdfast.job.state import End, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, StoreHarness


async def made_suspects(h: StoreHarness, count: int) -> list[str]:
    """Let `count` jobs share a process that dies; return their ids."""
    ids = [job.id for job in await h.add_many(count)]
    assert len(await h.claim(count, "dead")) == count
    assert await h.died("dead") == count
    return ids


class Suspects(StoreSuite):
    """Blame after a process died."""

    @feature("A5")
    async def test_jobs_that_shared_a_dead_process_are_suspects_and_none_is_blamed(self, h: StoreHarness) -> None:
        ids = await made_suspects(h, 3)
        jobs = [await h.job(job_id) for job_id in ids]
        assert [(job.suspect, job.crashes, job.failures, job.state) for job in jobs] == [(True, 0, 1, State.QUEUED)] * 3
        assert {job.last.end for job in jobs if job.last} == {End.CRASHED}

    @feature("A5")
    async def test_a_process_runs_at_most_one_suspect_beside_normal_jobs(self, h: StoreHarness) -> None:
        suspects = await made_suspects(h, 3)
        normal = [job.id for job in await h.add_many(3)]
        claims = await h.claim(instance="i1")
        assert [claim.id for claim in claims] == [suspects[0], *normal]
        assert [claim.suspect for claim in claims] == [True, False, False, False]
        assert await h.claim(instance="i1") == ()
        assert await h.claim_ids(instance="i2") == [suspects[1]]
        assert await h.claim_ids(instance="i3") == [suspects[2]]

    @feature("A5")
    async def test_a_process_that_ended_its_suspect_may_take_the_next(self, h: StoreHarness) -> None:
        suspects = await made_suspects(h, 2)
        await h.settle(await h.claim_one())
        assert await h.claim_ids() == [suspects[1]]

    @feature("A5")
    async def test_when_the_process_of_a_suspect_dies_the_suspect_alone_is_blamed(self, h: StoreHarness) -> None:
        guilty, other = await made_suspects(h, 2)
        normal = await h.add()
        assert await h.claim_ids(instance="i1") == [guilty, normal.id]
        await h.died("i1")
        assert [(await h.job(job_id)).crashes for job_id in (guilty, other, normal.id)] == [1, 0, 0]
        assert (await h.job(normal.id)).suspect is False

    @feature("A5")
    async def test_a_killer_among_19_innocents_ends_as_failed_and_no_innocent_does(self, h: StoreHarness) -> None:
        ids = [job.id for job in await h.add_many(20)]
        killer = ids[7]
        for n in range(200):
            claims = await h.claim(20, f"i{n}")
            if not claims:
                break
            if killer in [claim.id for claim in claims]:
                await h.died(f"i{n}")
            else:
                for claim in claims:
                    await h.settle(claim)
        states = {job_id: await h.state(job_id) for job_id in ids}
        assert states.pop(killer) is State.FAILED
        assert set(states.values()) == {State.SUCCEEDED}
        assert (await h.job(killer)).crashes == CRASHES_MAX

    @feature("A5")
    async def test_a_suspect_that_ends_any_other_way_is_cleared(self, h: StoreHarness) -> None:
        for ending in (Succeeded(b"1"), Failed(ERROR), Snoozed(0.0)):
            first, _second = await made_suspects(h, 2)
            claim = await h.claim_one()
            assert (claim.id, claim.suspect) == (first, True)
            await h.settle(claim, ending)
            assert (await h.job(first)).suspect is False, ending
            await h.run_all()

    @feature("A5", "A9")
    async def test_a_release_proves_nothing_so_a_suspect_stays_one(self, h: StoreHarness) -> None:
        first, _second = await made_suspects(h, 2)
        await h.claim_and_settle(Released("stop"))
        assert (await h.claim_one("i2")).id == first
        assert (await h.job(first)).suspect is True

    @feature("A5")
    async def test_a_process_of_one_job_leaves_no_doubt(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_one("parent")
        claim = await h.beat("parent")
        assert len(claim.held) == 1
        await h.died("parent")
        assert (await h.job(job.id)).crashes <= 1
        for n in range(CRASHES_MAX):
            if (await h.state(job.id)) is not State.FAILED:
                await h.claim_one(f"i{n}")
                await h.died(f"i{n}")
        assert (await h.state(job.id)) is State.FAILED

    @feature("A5")
    async def test_a_crash_that_a_parent_settles_blames_its_job_alone(self, h: StoreHarness) -> None:
        await h.add_many(2)
        mine, other = await h.claim(instance="parent")
        await h.settle(mine, Crashed(ERROR))
        assert [(await h.job(claim.id)).crashes for claim in (mine, other)] == [1, 0]
        assert (await h.job(other.id)).state is State.RUNNING

    @feature("A10")
    async def test_a_lease_that_ended_while_nobody_looked_is_no_crash(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_one()
        await h.lose()
        lost = await h.job(job.id)
        assert (lost.crashes, lost.suspect, lost.failures) == (0, False, 1)
