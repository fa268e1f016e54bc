"""A source hands out what is ready, once, in order, with numbers that only grow."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.job.commands import Accepted, Failed, QueueWant, Released, Settlement, Snoozed, Succeeded, Want
from holdfast.job.state import State
from holdfast.testing.contract.base import SourceSuite, feature
from holdfast.testing.contract.harness import ERROR, LEASE, SourceHarness

#: Tokens stay exact in JSON readers that hold numbers as doubles.
TOKEN_MAX = 2**53

H = SourceHarness[Any]


class Claiming(SourceSuite):
    """Who gets what, and when."""

    @feature("G22", "B10", "T16", "TW3", "TW5")
    async def test_an_item_is_claimed_with_attempt_1_a_token_and_a_lease(self, h: H) -> None:
        [item_id] = await h.make()
        claim = await h.claim_one()
        assert (claim.id, claim.attempt, claim.queue, claim.task) == (item_id, 1, h.queue, h.task)
        assert claim.lease_until == h.clock.now() + LEASE
        assert claim.lease == 0.0, "the worker's own"
        assert 0 < claim.token < TOKEN_MAX
        look = await h.look(item_id)
        assert (look.state, look.attempt, look.token, look.end) == (State.RUNNING, 1, claim.token, None)

    @feature("B10")
    async def test_an_empty_source_answers_with_nothing(self, h: H) -> None:
        answer = await h.wanted()
        assert (answer.items, answer.next_due) == ((), None)

    @feature("G22", "G14")
    async def test_items_come_in_order_of_acceptance_and_never_more_than_the_limit(self, h: H) -> None:
        ids = await h.make(5)
        assert [claim.id for claim in await h.claim(2)] == ids[:2]
        assert [claim.id for claim in await h.claim(2)] == ids[2:4]
        assert [claim.id for claim in await h.claim(2)] == ids[4:]
        assert await h.claim(2) == ()

    @feature("T15")
    async def test_a_limit_per_queue_is_kept_beside_the_limit_in_all(self, h: H) -> None:
        await h.make(5)
        want = Want(queues=(QueueWant(h.queue, 2),), limit=5, instance="i1", worker="w")
        assert len((await h.source.claim(want)).items) == 2
        want = Want(queues=(QueueWant(h.queue, 5),), limit=1, instance="i1", worker="w")
        assert len((await h.source.claim(want)).items) == 1

    @feature("B11", "B12")
    async def test_a_running_item_is_not_handed_out_again(self, h: H) -> None:
        await h.make()
        await h.claim_one("i1")
        assert await h.claim(instance="i2") == ()

    @feature("T16", "TW3")
    async def test_many_claimers_at_once_get_each_item_exactly_once(self, h: H) -> None:
        ids = await h.make(100)
        rounds = await asyncio.gather(*(h.claim(7, f"i{n}") for n in range(20)))
        taken = [claim.id for claims in rounds for claim in claims]
        assert sorted(taken) == sorted(ids)
        assert all(len(claims) <= 7 for claims in rounds)

    @feature("T16")
    async def test_many_workers_at_once_drain_a_source_and_each_item_succeeds_once(self, h: H) -> None:
        ids = await h.make(60)
        done: list[str] = []

        async def work(instance: str) -> None:
            while claims := await h.claim(3, instance):
                for claim in claims:
                    assert (await h.settle(claim)).accepted is Accepted.APPLIED
                    done.append(claim.id)

        await asyncio.gather(*(work(f"i{n}") for n in range(8)))
        assert sorted(done) == sorted(ids)
        assert {(await h.look(item_id)).state for item_id in ids} == {State.SUCCEEDED}

    @feature("A4", "G19")
    async def test_a_delayed_item_is_not_handed_out_before_its_time(self, h: H) -> None:
        [item_id] = await h.make(delay=2.0)
        h.advance(1.0)
        assert await h.claim() == ()
        assert (await h.look(item_id)).state is State.SCHEDULED
        h.advance(1.0)
        assert [claim.id for claim in await h.claim()] == [item_id]

    @feature("A4", "G19")
    async def test_a_claim_tells_when_the_next_item_is_due(self, h: H) -> None:
        start = h.clock.now()
        await h.make(delay=50.0)
        await h.make(delay=20.0)
        assert (await h.wanted()).next_due == start + 20.0
        h.advance(20.0)
        answer = await h.wanted()
        assert (len(answer.items), answer.next_due) == (1, start + 50.0)

    @feature("G19")
    async def test_a_rescue_promotes_what_is_due(self, h: H) -> None:
        ids = await h.make(3, delay=5.0)
        assert (await h.source.rescue()).promoted == 0
        h.advance(5.0)
        assert (await h.source.rescue()).promoted == 3
        assert {(await h.look(item_id)).state for item_id in ids} == {State.QUEUED}

    @feature("G22", "G19")
    async def test_items_that_became_due_come_in_order_of_their_time(self, h: H) -> None:
        [late] = await h.make(delay=9.0)
        [early] = await h.make(delay=3.0)
        h.advance(10.0)
        assert [claim.id for claim in await h.claim()] == [early, late]

    @feature("B13", "T18", "BW4")
    async def test_attempt_numbers_and_tokens_only_grow_whatever_ends_an_attempt(self, h: H) -> None:
        await h.make()
        seen: list[tuple[int, int]] = []
        for ending in (Failed(ERROR), Released("stop"), Snoozed(0.0), Released("later", delay=0.0, counted=False)):
            claim = await h.claim_one()
            seen.append((claim.attempt, claim.token))
            await h.settle(claim, ending)
        claim = await h.claim_one()
        seen.append((claim.attempt, claim.token))
        await h.lose()
        claim = await h.claim_one()
        seen.append((claim.attempt, claim.token))
        assert [attempt for attempt, _ in seen] == [1, 2, 3, 4, 5, 6]
        tokens = [token for _, token in seen]
        assert tokens == sorted(set(tokens))
        assert max(tokens) < TOKEN_MAX

    @feature("T16")
    async def test_answers_of_a_settled_batch_come_per_item_and_in_order(self, h: H) -> None:
        ids = await h.make(3)
        claims = {claim.id: claim for claim in await h.claim()}
        await h.settle(claims[ids[1]])
        batch = [Settlement(claims[ids[n]], Succeeded(b"1") if n != 1 else Failed(ERROR)) for n in (2, 1, 0)]
        answers = await h.source.settle([*batch, batch[0]])
        assert [answer.id for answer in answers] == [ids[2], ids[1], ids[0], ids[2]]
        assert [answer.accepted for answer in answers] == [
            Accepted.APPLIED,
            Accepted.STALE,
            Accepted.APPLIED,
            Accepted.REPEATED,
        ]

    async def test_empty_batches_are_fine(self, h: H) -> None:
        assert await h.source.settle([]) == []
        assert await h.source.progress([]) == []
