"""Only the newest claim can write. A stale worker is refused, changes nothing, and is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.job.commands import Accepted, Claim, Ending, Failed, Progress, Snoozed, Succeeded
from holdfast.job.state import End, State
from holdfast.testing.contract.base import SourceSuite, feature
from holdfast.testing.contract.harness import ERROR, LEASE, LONG, Look, SourceHarness, endings

H = SourceHarness[Any]
Meanwhile = Callable[[H, Claim[Any]], Awaitable[State]]


async def _queued_again(h: H, _stale: Claim[Any]) -> State:
    await h.lose()
    return State.QUEUED


async def _running_again(h: H, _stale: Claim[Any]) -> State:
    await h.lose()
    await h.claim_one("i2")
    return State.RUNNING


async def _running_again_in_the_same_process(h: H, stale: Claim[Any]) -> State:
    await h.lose()
    await h.claim_one("i1")
    return State.RUNNING


def _ended_by_another(ending: Ending, state: State) -> Meanwhile:
    async def meanwhile(h: H, _stale: Claim[Any]) -> State:
        await h.lose()
        await h.settle(await h.claim_one("i2"), ending)
        return state

    return meanwhile


async def _canceled(h: H, stale: Claim[Any]) -> State:
    await h.lose()
    await h.ask_cancel(stale.id)
    return State.CANCELED


MEANWHILES: dict[str, Meanwhile] = {
    "queued again": _queued_again,
    "running elsewhere": _running_again,
    "running again in its own process": _running_again_in_the_same_process,
    "retrying": _ended_by_another(Failed(ERROR, retry_in=LONG), State.RETRYING),
    "scheduled": _ended_by_another(Snoozed(LONG), State.SCHEDULED),
    "succeeded": _ended_by_another(Succeeded(b"2"), State.SUCCEEDED),
    "failed": _ended_by_another(Failed(ERROR, retryable=False), State.FAILED),
    "canceled": _canceled,
}

every_meanwhile = pytest.mark.parametrize("meanwhile", MEANWHILES.values(), ids=MEANWHILES.keys())
every_ending = pytest.mark.parametrize("ending", endings(), ids=lambda ending: type(ending).__name__)


def _unended(look: Look) -> Look:
    # The late report turns `lost` into `stale` in the old attempt: that is the record of it, not a change of the item.
    return replace(look, end=None) if look.end in (End.LOST, End.STALE) else look


class Fencing(SourceSuite):
    """Stale tokens, repeats, and leases that are over but not rescued."""

    @feature("A6", "T19", "G24")
    @every_meanwhile
    @every_ending
    async def test_a_stale_worker_cannot_settle(self, h: H, meanwhile: Meanwhile, ending: Ending) -> None:
        await h.make()
        stale = await h.claim_one("i1")
        state = await meanwhile(h, stale)
        before = await h.look(stale.id)
        assert before.state is state
        answer = await h.settle(stale, ending)
        assert (answer.id, answer.token, answer.accepted, answer.state) == (
            stale.id,
            stale.token,
            Accepted.STALE,
            state,
        )
        assert _unended(await h.look(stale.id)) == _unended(before)

    @feature("A6")
    @every_meanwhile
    async def test_a_stale_worker_cannot_report_progress(self, h: H, meanwhile: Meanwhile) -> None:
        await h.make()
        stale = await h.claim_one("i1")
        await meanwhile(h, stale)
        before = await h.look(stale.id)
        [answer] = await h.source.progress([Progress(stale, b"50", update=b'{"a":1}', log=b'[[1,"info","x"]]')])
        assert (answer.id, answer.accepted) == (stale.id, Accepted.STALE)
        assert _unended(await h.look(stale.id)) == _unended(before)

    @feature("A6", "B3")
    @every_meanwhile
    async def test_a_beat_does_not_list_a_stale_claim(self, h: H, meanwhile: Meanwhile) -> None:
        await h.make()
        stale = await h.claim_one("i1")
        await meanwhile(h, stale)
        before = await h.look(stale.id)
        signals = await h.beat("i1")
        assert (stale.id, stale.token) not in [(held.id, held.token) for held in signals.held]
        assert await h.look(stale.id) == before

    @feature("A6")
    @every_ending
    async def test_a_stale_settle_does_not_harm_the_worker_that_took_over(self, h: H, ending: Ending) -> None:
        await h.make()
        stale = await h.claim_one("i1")
        await h.lose()
        fresh = await h.claim_one("i2")
        await h.settle(stale, ending)
        assert [(held.id, held.token) for held in (await h.beat("i2")).held] == [(fresh.id, fresh.token)]
        assert (await h.settle(fresh)).accepted is Accepted.APPLIED
        assert (await h.look(fresh.id)).state is State.SUCCEEDED

    @feature("A6", "GW3")
    async def test_a_token_that_was_never_given_is_refused(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        for token in (claim.token - 1, claim.token + 1, 0, -1):
            forged = replace(claim, token=token)
            assert (await h.settle(forged)).accepted is Accepted.STALE
            [answer] = await h.source.progress([Progress(forged, b"1")])
            assert answer.accepted is Accepted.STALE
        assert (await h.look(claim.id)).state is State.RUNNING

    @feature("T19")
    async def test_an_expired_lease_alone_refuses_nothing(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        h.advance(10 * LEASE)
        [answer] = await h.source.progress([Progress(claim, b"50")])
        assert answer.accepted is Accepted.APPLIED
        assert [(held.id, held.token) for held in (await h.beat()).held] == [(claim.id, claim.token)]
        h.advance(10 * LEASE)
        assert (await h.settle(claim)).accepted is Accepted.APPLIED
        assert (await h.look(claim.id)).state is State.SUCCEEDED

    @feature("G24")
    @every_ending
    async def test_the_same_settle_by_the_same_token_is_accepted_again_and_changes_nothing(
        self, h: H, ending: Ending
    ) -> None:
        await h.make()
        claim = await h.claim_one()
        first = await h.settle(claim, ending)
        assert first.accepted is Accepted.APPLIED
        before = await h.look(claim.id)
        h.advance(1.0)
        again = await h.settle(claim, ending)
        assert (again.accepted, again.state) == (Accepted.REPEATED, before.state)
        assert await h.look(claim.id) == before

    @feature("G24")
    @every_ending
    async def test_another_ending_by_the_same_token_is_refused(self, h: H, ending: Ending) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.settle(claim, ending)
        before = await h.look(claim.id)
        for other in endings():
            if type(other) is not type(ending):
                answer = await h.settle(claim, other)
                assert (answer.accepted, answer.state) == (Accepted.STALE, before.state), other
        assert await h.look(claim.id) == before

    @feature("G24")
    @every_ending
    async def test_a_repeat_is_known_also_when_a_cancel_made_something_else_of_the_ending(
        self, h: H, ending: Ending
    ) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.ask_cancel(claim.id)
        first = await h.settle(claim, ending)
        before = await h.look(claim.id)
        again = await h.settle(claim, ending)
        assert (first.accepted, again.accepted) == (Accepted.APPLIED, Accepted.REPEATED)
        assert await h.look(claim.id) == before

    @feature("G24")
    @pytest.mark.parametrize("ending", [Failed(ERROR), Failed(ERROR, retryable=False)], ids=["budget spent", "final"])
    async def test_a_repeat_is_known_also_when_the_item_gave_up(self, h: H, ending: Ending) -> None:
        await h.make(max_attempts=1)
        claim = await h.claim_one()
        assert (await h.settle(claim, ending)).state is State.FAILED
        answer = await h.settle(claim, ending)
        assert (answer.accepted, answer.state) == (Accepted.REPEATED, State.FAILED)

    @feature("G24")
    async def test_a_repeat_is_known_after_the_item_became_due_again(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.settle(claim, Snoozed(5.0))
        h.advance(5.0)
        await h.source.rescue()
        answer = await h.settle(claim, Snoozed(5.0))
        assert (answer.accepted, answer.state) == (Accepted.REPEATED, State.QUEUED)

    @feature("T19")
    async def test_a_progress_after_the_settle_is_refused(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.settle(claim)
        [answer] = await h.source.progress([Progress(claim, b"99")])
        assert (answer.accepted, answer.state) == (Accepted.STALE, State.SUCCEEDED)

    @feature("B12")
    async def test_a_clock_that_steps_back_revives_no_stale_token(self, h: H) -> None:
        await h.make()
        stale = await h.claim_one("i1")
        await h.lose()
        h.clock.step(-3_600.0)
        fresh = await h.claim_one("i2")
        assert fresh.token > stale.token
        assert (await h.settle(stale)).accepted is Accepted.STALE
        assert (await h.settle(fresh)).accepted is Accepted.APPLIED
