"""The store's clock steps: back by an hour, ahead by a month. What was decided stays decided."""

from __future__ import annotations

import pytest

from holdfast.job.commands import Accepted
from holdfast.job.state import End, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import LEASE, StoreHarness
from holdfast.testing.contract.ticks import look, made, ticks

HOUR, MONTH = 3_600.0, 30 * 86_400.0


class Clocks(StoreSuite):
    """Leases, due times and ticks when the wall clock of the store is set."""

    @feature("T24")
    @pytest.mark.parametrize("step", [-HOUR, MONTH])
    async def test_a_claim_that_was_lost_is_not_revived_by_a_clock_that_is_set(
        self, h: StoreHarness, step: float
    ) -> None:
        job = await h.add()
        lost = await h.claim_one("i1")
        assert (await h.lose(after=LEASE + 1.0)).lost == 1
        h.clock.step(step)
        assert (await h.settle(lost)).accepted is Accepted.STALE
        claim = await h.claim_one("i2")
        assert claim.token > lost.token
        assert (await h.settle(lost)).accepted is Accepted.STALE
        assert (await h.settle(claim)).accepted is Accepted.APPLIED
        assert [one.end for one in (await h.job(job.id)).attempts] == [End.STALE, End.SUCCEEDED]

    @feature("T24")
    async def test_a_clock_that_is_set_back_loses_no_claim(self, h: StoreHarness) -> None:
        await h.add()
        claim = await h.claim_one()
        h.clock.step(-HOUR)
        assert [held.token for held in (await h.beat()).held] == [claim.token]
        assert (await h.store.rescue()).lost == 0
        assert (await h.settle(claim)).accepted is Accepted.APPLIED

    @feature("T24")
    async def test_a_clock_that_is_set_ahead_makes_due_what_lies_between_once(self, h: StoreHarness) -> None:
        soon, late = await h.add(delay=HOUR), await h.add(delay=2 * MONTH)
        h.clock.step(MONTH)
        claim = await h.claim_one()
        assert claim.id == soon.id
        h.clock.step(-MONTH)
        assert await h.claim() == ()
        assert (await h.settle(claim)).accepted is Accepted.APPLIED
        assert await h.claim() == ()
        assert await h.state(late.id) is State.SCHEDULED

    @feature("T31", "TW16")
    @pytest.mark.parametrize("step", [-HOUR, -MONTH])
    async def test_a_clock_that_is_set_back_fires_no_tick_again(self, h: StoreHarness, step: float) -> None:
        await made(h)
        for _ in range(3):
            await look(h, 60.0)
        fired = await ticks(h)
        assert len(fired) == 3
        h.clock.step(step)
        await look(h, 60.0)
        assert await ticks(h) == fired
        await look(h, -step + 60.0)
        again = await ticks(h)
        assert again[:3] == fired
        assert len(set(again)) == len(again) > 3
