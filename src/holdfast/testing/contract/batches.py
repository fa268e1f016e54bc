"""Large batches: they may come from an iterable, of which a store may draw some while it stores others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from holdfast.errors import ContentError, DuplicateJob, TooLarge
from holdfast.job.commands import ENQUEUE_BYTES_MAX, ENQUEUE_JOBS_MAX, Verdict
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness

MANY = 1_300


class Sized:
    """An iterable that knows how many it will give, as those that are drawn while they are stored do."""

    def __init__(self, jobs: Iterable[NewJob], count: int) -> None:
        self._jobs, self._count = jobs, count

    def __length_hint__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NewJob]:
        return iter(self._jobs)


class Batches(StoreSuite):
    """All or nothing, whatever is met where."""

    def drawn(self, h: StoreHarness, count: int = MANY, at: int = -1, **odd: Any) -> Sized:
        """Jobs that are made one by one; the one at a place is odd."""
        return Sized((h.new(**(odd if number == at else {})) for number in range(count)), count)

    @feature("T2")
    async def test_a_large_batch_is_answered_in_its_order_and_runs_in_it(self, h: StoreHarness) -> None:
        await h.add()
        jobs = [h.new(payload=b"%d" % number) for number in range(MANY)]
        answers = await h.store.enqueue(Sized(iter(jobs), MANY))
        assert [(one.verdict, one.id, one.job.payload) for one in answers] == [
            (Verdict.NEW, new.id, new.payload) for new in jobs
        ]
        assert await h.store.jobs([new.id for new in jobs]) == [one.job for one in answers]
        seqs = [one.job.seq for one in answers]
        assert seqs == sorted(set(seqs))
        claims = [claim.id for _ in range(4) for claim in await h.claim(400)]
        assert claims[1:] == [new.id for new in jobs]

    @feature("T2")
    @pytest.mark.parametrize("at", [0, 200, MANY - 1])
    async def test_a_fault_that_is_met_while_a_batch_is_drawn_stores_nothing_of_it(
        self, h: StoreHarness, at: int
    ) -> None:
        def jobs() -> Iterator[NewJob]:
            for number in range(MANY):
                if number == at:
                    raise LookupError(f"no job {number}")
                yield h.new()

        await h.add()
        with pytest.raises(LookupError, match=f"no job {at}"):
            await h.store.enqueue(Sized(jobs(), MANY))
        with pytest.raises(ContentError, match="surrogate"):
            await h.store.enqueue(self.drawn(h, at=at, key="\ud800"))
        assert (await h.store.stats()).total(State.QUEUED) == 1
        assert len(await h.claim(10)) == 1  # and it works on

    @pytest.mark.parametrize("count", [400, MANY])
    async def test_a_large_batch_into_a_new_queue_with_odd_jobs_within_is_stored_whole(
        self, h: StoreHarness, count: int
    ) -> None:
        jobs = [
            h.new(
                queue="new",
                id=f"mine-{number}" if number % 300 == 299 else f"made-{number:06d}x",
                own_id=number % 300 == 299,
                unique="one" if number == 350 else None,
                priority=number % 3,
            )
            for number in range(count)
        ]
        answers = await h.store.enqueue(Sized(iter(jobs), count))
        assert [one.id for one in answers] == [new.id for new in jobs]
        assert {one.verdict for one in answers} == {Verdict.NEW}
        assert (await h.store.stats()).total(State.QUEUED) == count
        with pytest.raises(DuplicateJob):
            await h.store.enqueue(self.drawn(h, at=count - 1, id="mine-299", own_id=True))
        assert (await h.store.stats()).total(State.QUEUED) == count

    async def test_an_id_of_the_engine_that_comes_twice_in_a_large_batch_is_one_job(self, h: StoreHarness) -> None:
        await h.add()
        jobs = [h.new() for _ in range(MANY)]
        answers = await h.store.enqueue(Sized(iter([*jobs, jobs[3]]), MANY + 1))
        assert [one.id for one in answers] == [*(new.id for new in jobs), jobs[3].id]
        assert answers[-1].verdict is Verdict.DUPLICATE
        again = await h.store.enqueue(Sized(iter(jobs), MANY))
        assert {one.verdict for one in again} == {Verdict.DUPLICATE}
        assert (await h.store.stats()).total(State.QUEUED) == MANY + 1

    async def test_a_batch_over_the_limit_is_refused_when_that_is_seen(self, h: StoreHarness) -> None:
        await h.add()
        with pytest.raises(TooLarge, match="10,000 jobs"):
            await h.store.enqueue(self.drawn(h, ENQUEUE_JOBS_MAX + 1))
        with pytest.raises(TooLarge, match="bytes of payload"):
            await h.store.enqueue(self.drawn(h, 400, at=390, payload=b"x" * (ENQUEUE_BYTES_MAX + 1)))
        assert (await h.store.stats()).total(State.QUEUED) == 1
