"""`wait` returns as soon as work may be ready, and at once if anything came since the claim."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.job.commands import Released
from holdfast.testing.contract.base import SourceSuite, feature
from holdfast.testing.contract.harness import SourceHarness

H = SourceHarness[Any]

#: Seconds of real time. A wait that should end does so at once; the bound only keeps a broken one from hanging.
BOUND = 5.0
#: What the waits themselves are told: longer than the bound, so that a wait which only times out is found.
NEVER = 600.0


class Waiting(SourceSuite):
    """Wake-ups, on sources that push."""

    async def woken(self, h: H, cursor: int) -> bool:
        """Wait for work that the claim with `cursor` did not see."""
        return await asyncio.wait_for(h.source.wait([h.queue], cursor, NEVER), BOUND)

    @feature("T22")
    async def test_nothing_came_and_the_time_is_over(self, h: H) -> None:
        answer = await h.wanted()
        assert await h.source.wait([h.queue], answer.cursor, 0.0) is False

    @feature("T22")
    async def test_a_wait_returns_at_once_if_something_came_since_the_claim(self, h: H) -> None:
        answer = await h.wanted()
        await h.make()
        assert await self.woken(h, answer.cursor) is True
        assert len(await h.claim()) == 1

    @feature("T22")
    async def test_a_wait_is_woken_by_new_work(self, h: H) -> None:
        _need_push(h)
        answer = await h.wanted()
        waiting = asyncio.create_task(self.woken(h, answer.cursor))
        await asyncio.sleep(0)
        assert not waiting.done()
        await h.make()
        assert await waiting is True

    @feature("T22")
    async def test_all_who_wait_are_woken(self, h: H) -> None:
        _need_push(h)
        answer = await h.wanted()
        waiting = [asyncio.create_task(self.woken(h, answer.cursor)) for _ in range(5)]
        await asyncio.sleep(0)
        await h.make(5)
        assert await asyncio.gather(*waiting) == [True] * 5

    @feature("T22")
    async def test_a_released_item_wakes(self, h: H) -> None:
        _need_push(h)
        await h.make()
        claim = await h.claim_one()
        answer = await h.wanted()
        await h.settle(claim, Released("stopping"))
        assert await self.woken(h, answer.cursor) is True

    @feature("T22")
    async def test_a_rescue_that_makes_an_item_ready_wakes(self, h: H) -> None:
        _need_push(h)
        await h.make()
        await h.claim_one()
        answer = await h.wanted()
        await h.lose()
        assert await self.woken(h, answer.cursor) is True

    @feature("T22")
    async def test_a_rescue_that_promotes_wakes(self, h: H) -> None:
        _need_push(h)
        await h.make(delay=60.0)
        answer = await h.wanted()
        h.advance(60.0)
        await h.source.rescue()
        assert await self.woken(h, answer.cursor) is True

    @feature("T22")
    async def test_a_death_that_makes_an_item_ready_wakes(self, h: H) -> None:
        _need_push(h)
        await h.make()
        await h.claim_one()
        answer = await h.wanted()
        await h.died()
        assert await self.woken(h, answer.cursor) is True

    @feature("T22")
    async def test_a_wait_that_was_cancelled_leaves_nothing_behind(self, h: H) -> None:
        answer = await h.wanted()
        waiting = asyncio.create_task(self.woken(h, answer.cursor))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await h.make()
        assert len(await h.claim()) == 1


def _need_push(h: H) -> None:
    if not h.source.capabilities.push:
        pytest.skip("this source is polled")
