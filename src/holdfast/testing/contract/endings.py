"""What becomes of an item when an attempt ends, and how the budgets bound it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.job.commands import (
    Accepted,
    Canceled,
    Crashed,
    Ending,
    Failed,
    Released,
    Settled,
    Snoozed,
    Succeeded,
    TimedOut,
)
from holdfast.job.model import CRASHES_MAX, RELEASES_MAX, SNOOZES_MAX
from holdfast.job.state import End, State
from holdfast.testing.contract.base import SourceSuite, feature
from holdfast.testing.contract.harness import ERROR, LEASE, SourceHarness, endings

H = SourceHarness[Any]


async def each(h: H, steps: Sequence[Ending]) -> list[State | None]:
    """End one attempt after another; return the state after each."""
    return [(await h.settle(await h.claim_one(), ending)).state for ending in steps]


class Endings(SourceSuite):
    """One row of the state table after another."""

    @feature("G7", "B12", "B41")
    async def test_done_ends_as_succeeded(self, h: H) -> None:
        [item_id] = await h.make()
        answer = await h.settle(await h.claim_one(), Succeeded(b'{"ok":true}'))
        assert (answer.accepted, answer.state) == (Accepted.APPLIED, State.SUCCEEDED)
        look = await h.look(item_id)
        assert (look.state, look.end, look.failures) == (State.SUCCEEDED, End.SUCCEEDED, 0)
        assert await h.claim() == ()

    @feature("G9", "A2")
    async def test_a_snooze_waits_its_delay_and_spends_no_failure(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=1)
        answer = await h.settle(await h.claim_one(), Snoozed(60.0, reason="not yet"))
        due = h.clock.now() + 60.0
        assert (answer.state, answer.run_at) == (State.SCHEDULED, due)
        look = await h.look(item_id)
        assert (look.run_at, look.failures, look.snoozes, look.end) == (due, 0, 1, End.SNOOZED)
        h.advance(59.0)
        assert await h.claim() == ()
        h.advance(1.0)
        assert (await h.claim_one()).attempt == 2

    @feature("A2", "G10")
    async def test_three_snoozes_then_done(self, h: H) -> None:
        await h.make(max_attempts=1)
        states = await each(h, [Snoozed(0.0), Snoozed(0.0), Snoozed(0.0), Succeeded(b"null")])
        assert states == [State.SCHEDULED, State.SCHEDULED, State.SCHEDULED, State.SUCCEEDED]

    @feature("G11", "T18", "B41", "BW21")
    @pytest.mark.parametrize("ending", [Failed(ERROR), TimedOut(ERROR)], ids=["error", "timed out"])
    async def test_failures_are_retried_within_their_budget_and_then_end_as_failed(self, h: H, ending: Ending) -> None:
        [item_id] = await h.make(max_attempts=3)
        assert await each(h, [ending] * 3) == [State.RETRYING, State.RETRYING, State.FAILED]
        look = await h.look(item_id)
        assert (look.failures, look.attempt, look.error) == (3, 3, ERROR.text)
        assert await h.claim() == ()

    @feature("T18", "B14")
    async def test_one_attempt_means_never_retried(self, h: H) -> None:
        await h.make(max_attempts=1)
        assert await each(h, [Failed(ERROR)]) == [State.FAILED]

    @feature("T18", "BW4")
    async def test_every_kind_of_failure_spends_the_same_budget(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=4)
        assert await each(h, [Failed(ERROR), TimedOut(ERROR), Crashed(ERROR)]) != []
        await h.claim_one()
        await h.lose()
        look = await h.look(item_id)
        assert (look.state, look.failures, look.end) == (State.FAILED, 4, End.LOST)

    @feature("G11")
    async def test_an_error_that_is_not_retryable_ends_as_failed_at_once(self, h: H) -> None:
        [item_id] = await h.make()
        assert await each(h, [Failed(ERROR, retryable=False)]) == [State.FAILED]
        assert (await h.look(item_id)).end is End.FAILED

    @feature("T18")
    async def test_a_failure_may_name_its_own_wait(self, h: H) -> None:
        await h.make()
        answer = await h.settle(await h.claim_one(), Failed(ERROR, retry_in=120.0))
        assert (answer.state, answer.run_at) == (State.RETRYING, h.clock.now() + 120.0)
        h.advance(119.0)
        assert await h.claim() == ()
        h.advance(1.0)
        assert (await h.claim_one()).attempt == 2

    @feature("T17")
    async def test_a_handler_may_cancel_its_own_item(self, h: H) -> None:
        [item_id] = await h.make()
        assert await each(h, [Canceled("nothing left to do")]) == [State.CANCELED]
        look = await h.look(item_id)
        assert (look.end, look.failures) == (End.CANCELED, 0)

    @feature("A9", "T20")
    async def test_a_released_item_is_ready_at_once_and_spends_no_failure(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=1)
        answer = await h.settle(await h.claim_one(), Released("stopping"))
        assert answer.state is State.QUEUED
        look = await h.look(item_id)
        assert (look.failures, look.releases, look.end) == (0, 1, End.RELEASED)
        assert (await h.claim_one()).attempt == 2

    @feature("A9")
    async def test_a_released_item_keeps_its_place(self, h: H) -> None:
        ids = await h.make(3)
        await h.settle(await h.claim_one(), Released("stopping"))
        assert [claim.id for claim in await h.claim()] == ids

    @feature("T10")
    async def test_a_release_may_wait(self, h: H) -> None:
        [item_id] = await h.make()
        answer = await h.settle(await h.claim_one(), Released("no handler", delay=30.0, counted=False))
        assert (answer.state, answer.run_at) == (State.SCHEDULED, h.clock.now() + 30.0)
        look = await h.look(item_id)
        assert (look.failures, look.releases, look.snoozes) == (0, 0, 0)
        assert await h.claim() == ()
        h.advance(30.0)
        assert (await h.claim_one()).attempt == 2

    @feature("T19", "G16", "TW5")
    async def test_the_first_loss_is_queued_at_once_in_its_old_place(self, h: H) -> None:
        ids = await h.make(2)
        await h.claim(1)
        assert (await h.lose()).lost == 1
        look = await h.look(ids[0])
        assert (look.state, look.failures, look.end) == (State.QUEUED, 1, End.LOST)
        [claim] = await h.claim(1)
        assert (claim.id, claim.attempt) == (ids[0], 2)

    @feature("T19")
    async def test_a_loss_after_another_ending_is_the_first_of_its_row_again(self, h: H) -> None:
        [item_id] = await h.make()
        await h.claim_one()
        await h.lose()
        await h.settle(await h.claim_one(), Failed(ERROR))
        await h.claim_one()
        h.advance(LEASE + 1.0)
        assert ((await h.source.rescue()).promoted, (await h.look(item_id)).state) == (0, State.QUEUED)

    @feature("B14", "T19")
    async def test_losses_spend_the_failure_budget(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=3)
        for _ in range(3):
            await h.claim_one()
            await h.lose()
        look = await h.look(item_id)
        assert (look.state, look.failures, look.crashes) == (State.FAILED, 3, 0)

    @feature("A5")
    async def test_an_item_that_kills_its_process_three_times_ends_as_failed(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=100)
        states = await each(h, [Crashed(ERROR)] * CRASHES_MAX)
        assert states[-1] is State.FAILED
        assert State.FAILED not in states[:-1]
        look = await h.look(item_id)
        assert (look.crashes, look.failures, look.end) == (CRASHES_MAX, CRASHES_MAX, End.CRASHED)

    @feature("A5")
    async def test_other_endings_between_do_not_forgive_a_crash(self, h: H) -> None:
        [item_id] = await h.make(max_attempts=100)
        steps: list[Ending] = [
            Crashed(ERROR),
            Failed(ERROR),
            Crashed(ERROR),
            Snoozed(0.0),
            Released("stop"),
            Crashed(ERROR),
        ]
        assert (await each(h, steps))[-1] is State.FAILED
        assert (await h.look(item_id)).crashes == CRASHES_MAX

    @feature("A2")
    async def test_snoozes_have_a_limit_of_their_own(self, h: H) -> None:
        [item_id] = await h.make()
        early = 10
        await h.snoozed(item_id, SNOOZES_MAX - early)
        assert set(await each(h, [Snoozed(0.0)] * early)) == {State.SCHEDULED}
        assert (await h.look(item_id)).snoozes == SNOOZES_MAX
        assert await each(h, [Snoozed(0.0)]) == [State.FAILED]

    @feature("A9")
    async def test_releases_have_a_limit_of_their_own(self, h: H) -> None:
        [item_id] = await h.make()
        assert set(await each(h, [Released("stop")] * RELEASES_MAX)) == {State.QUEUED}
        assert (await h.look(item_id)).releases == RELEASES_MAX
        assert await each(h, [Released("stop")]) == [State.FAILED]

    @feature("A9")
    async def test_items_that_never_started_are_given_back_free(self, h: H) -> None:
        [item_id] = await h.make()
        states = await each(h, [Released("not started", counted=False)] * (RELEASES_MAX + 5))
        assert set(states) == {State.QUEUED}
        assert (await h.look(item_id)).releases == 0


class CancelRaces(SourceSuite):
    """A cancel was asked while the item ran; what then?"""

    @feature("A30", "T7")
    async def test_a_running_item_that_is_asked_to_stop_runs_on_and_its_worker_is_told(self, h: H) -> None:
        await h.make(2)
        asked, other = await h.claim()
        await h.ask_cancel(asked.id)
        look = await h.look(asked.id)
        assert (look.state, look.cancel_asked) == (State.RUNNING, True)
        assert {held.id: held.cancel for held in (await h.beat()).held} == {asked.id: True, other.id: False}

    @feature("A30")
    @pytest.mark.parametrize("ending", endings(), ids=lambda ending: type(ending).__name__)
    async def test_work_that_was_done_stands_and_anything_else_ends_as_canceled(self, h: H, ending: Ending) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.ask_cancel(claim.id)
        answer = await h.settle(claim, ending)
        wanted = State.SUCCEEDED if isinstance(ending, Succeeded) else State.CANCELED
        assert (answer.accepted, answer.state) == (Accepted.APPLIED, wanted)
        assert (await h.look(claim.id)).state is wanted
        assert await h.claim() == ()

    @feature("A30")
    async def test_an_item_asked_to_stop_whose_worker_is_lost_ends_as_canceled(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.ask_cancel(claim.id)
        await h.lose()
        assert (await h.look(claim.id)).state is State.CANCELED

    @feature("A30")
    async def test_an_item_asked_to_stop_whose_process_died_ends_as_canceled(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.ask_cancel(claim.id)
        assert await h.died() == 1
        assert (await h.look(claim.id)).state is State.CANCELED

    @feature("A30")
    async def test_a_waiting_item_is_canceled_at_once(self, h: H) -> None:
        [ready] = await h.make()
        [later] = await h.make(delay=60.0)
        await h.ask_cancel(ready)
        await h.ask_cancel(later)
        assert [(await h.look(item_id)).state for item_id in (ready, later)] == [State.CANCELED] * 2
        h.advance(60.0)
        assert await h.claim() == ()


class Leases(SourceSuite):
    """Beats keep claims; silence and death end them."""

    @feature("A10", "B3")
    async def test_a_long_healthy_run_is_not_taken_for_a_lost_one(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        for _ in range(30):
            h.advance(10.0)
            assert [(held.ref, held.id, held.token) for held in (await h.beat()).held] == [
                (claim.ref, claim.id, claim.token)
            ]
            assert (await h.source.rescue()).lost == 0
        assert (await h.settle(claim)).accepted is Accepted.APPLIED

    @feature("B15")
    async def test_a_lease_ends_when_it_said(self, h: H) -> None:
        await h.make()
        await h.claim_one(lease=30.0)
        h.advance(29.0)
        assert (await h.source.rescue()).lost == 0
        h.advance(1.5)
        assert (await h.source.rescue()).lost == 1
        assert (await h.source.rescue()).lost == 0

    @feature("B3")
    async def test_a_beat_extends_its_own_claims_alone(self, h: H) -> None:
        await h.make(2)
        mine, other = await h.claim_one("i1"), await h.claim_one("i2")
        h.advance(20.0)
        assert [held.id for held in (await h.beat("i1")).held] == [mine.id]
        h.advance(15.0)
        assert (await h.source.rescue()).lost == 1
        assert (await h.look(mine.id)).state is State.RUNNING
        assert (await h.look(other.id)).state is State.QUEUED

    @feature("T19")
    async def test_a_rescue_ends_no_more_than_its_limit_and_says_that_there_is_more(self, h: H) -> None:
        await h.make(5)
        await h.claim()
        h.advance(LEASE + 1.0)
        first = await h.source.rescue(2)
        assert (first.lost, first.more) == (2, True)
        total = first.lost
        while first.more:
            first = await h.source.rescue(2)
            total += first.lost
        assert total == 5

    @feature("T19")
    async def test_many_rescuers_at_once_end_each_lost_claim_once(self, h: H) -> None:
        ids = await h.make(20)
        await h.claim()
        h.advance(LEASE + 1.0)
        rescues = await asyncio.gather(*(h.source.rescue() for _ in range(5)))
        assert sum(rescue.lost for rescue in rescues) == 20
        assert {(await h.look(item_id)).failures for item_id in ids} == {1}

    @feature("A5", "T19")
    async def test_a_process_that_was_seen_to_die_loses_its_claims_at_once(self, h: H) -> None:
        await h.make(3)
        mine = await h.claim(2, "i1")
        [other] = await h.claim(1, "i2")
        assert await h.died("i1", "exit code 137") == 2
        assert {(await h.look(claim.id)).state for claim in mine} == {State.QUEUED}
        assert {(await h.look(claim.id)).end for claim in mine} == {End.CRASHED}
        assert (await h.look(other.id)).state is State.RUNNING
        assert await h.died("i1") == 0

    @feature("A6")
    async def test_a_worker_that_was_held_dead_is_refused_when_it_speaks(self, h: H) -> None:
        await h.make()
        claim = await h.claim_one()
        await h.died()
        answer: Settled = await h.settle(claim)
        assert (answer.accepted, answer.state) == (Accepted.STALE, State.QUEUED)
        assert (await h.beat()).held == ()
