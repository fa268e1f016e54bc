"""The content corpus: whatever handlers return, raise or report, settles go through and reads show it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.errors import ContentError
from holdfast.job.commands import (
    Accepted,
    Cancel,
    Canceled,
    Edit,
    ErrorInfo,
    Failed,
    JobFilter,
    Page,
    Progress,
    Released,
    RunNow,
    Settlement,
    Snoozed,
    Succeeded,
    TimedOut,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.corpus import TEXTS, VALUES, clean
from holdfast.testing.contract.harness import LONG, StoreHarness

every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
#: What the front door lets through as a name.
NAMES = {name: text for name, text in TEXTS.items() if clean(text) and 0 < len(text) <= 100}
every_name = pytest.mark.parametrize("text", NAMES.values(), ids=NAMES.keys())
every_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


async def readable(h: StoreHarness, job_id: str) -> None:
    """Read the job in every way there is."""
    assert (await h.job(job_id)).id == job_id
    assert [job.id for job in (await h.store.find(JobFilter(), Page())).items] == [job_id]
    assert [job.id for job in (await h.store.find(JobFilter(text=job_id), Page())).items] == [job_id]
    assert await h.store.count(JobFilter()) == 1
    assert (await h.store.stats()).queues


class Content(StoreSuite):
    """Values and texts, each where it can come."""

    @feature("A11", "T8")
    @every_value
    async def test_a_payload_and_headers_come_back_byte_for_byte(self, h: StoreHarness, value: bytes) -> None:
        job = await h.add(payload=value, headers=value)
        claim = await h.claim_one()
        assert (claim.item.payload, claim.item.headers) == (value, value)
        stored = await h.job(job.id)
        assert (stored.payload, stored.headers) == (value, value)
        await readable(h, job.id)

    @feature("T8", "A11", "BW21")
    @every_value
    async def test_a_result_is_stored_byte_for_byte_and_its_settle_can_be_repeated(
        self, h: StoreHarness, value: bytes
    ) -> None:
        job = await h.add()
        claim = await h.claim_one()
        answers = [(await h.settle(claim, Succeeded(value))).accepted for _ in range(2)]
        assert answers == [Accepted.APPLIED, Accepted.REPEATED]
        assert (await h.job(job.id)).result == value
        await readable(h, job.id)

    @feature("G8", "G10")
    @every_value
    async def test_an_update_that_is_no_object_is_left_out_and_blocks_nothing(
        self, h: StoreHarness, value: bytes
    ) -> None:
        job = await h.add()
        await h.claim_and_settle(Snoozed(0.0, update=b'{"kept":1}'))
        claim = await h.claim_one()
        [answer] = await h.store.progress([Progress(claim, update=value)])
        assert answer.accepted is Accepted.APPLIED
        assert (await h.settle(claim, Succeeded(b"1", update=value))).accepted is Accepted.APPLIED
        data = json.loads((await h.job(job.id)).data)
        assert isinstance(data, dict)
        assert data["kept"] == 1
        await readable(h, job.id)

    @feature("T28")
    @every_value
    async def test_progress_and_log_lines_block_nothing(self, h: StoreHarness, value: bytes) -> None:
        job = await h.add()
        claim = await h.claim_one()
        for _ in range(2):
            [answer] = await h.store.progress([Progress(claim, value, log=value)])
            assert answer.accepted is Accepted.APPLIED
        [settled] = await h.store.settle([Settlement(claim, Succeeded(b"1"), log=value)])
        assert settled.accepted is Accepted.APPLIED
        await readable(h, job.id)

    @feature("G28")
    @every_text
    async def test_an_error_of_any_text_is_settled_and_shown(self, h: StoreHarness, text: str) -> None:
        job = await h.add()
        claim = await h.claim_one()
        ending = Failed(ErrorInfo(text, text, text), retry_in=0.0)
        answers = [(await h.settle(claim, ending)).accepted for _ in range(2)]
        assert answers == [Accepted.APPLIED, Accepted.REPEATED]
        await h.claim_and_settle(TimedOut(ErrorInfo(text, text, text)))
        stored = await h.job(job.id)
        assert (stored.state, stored.failures) == (State.RETRYING, 2)
        if clean(text):
            assert stored.last is not None
            assert (stored.last.error, stored.last.error_type, stored.last.traceback) == (text, text, text)
        await readable(h, job.id)

    @feature("T17")
    @every_text
    async def test_a_reason_of_any_text_is_settled_and_shown(self, h: StoreHarness, text: str) -> None:
        job = await h.add()
        for ending in (Snoozed(0.0, reason=text), Released(text), Canceled(text)):
            assert (await h.claim_and_settle(ending)).accepted is Accepted.APPLIED
        stored = await h.job(job.id)
        assert stored.state is State.CANCELED
        if clean(text):
            assert [attempt.reason for attempt in stored.attempts] == [text, text, text]
        await readable(h, job.id)

    @feature("A30")
    @every_text
    async def test_who_and_why_of_a_cancel_may_be_any_text(self, h: StoreHarness, text: str) -> None:
        job = await h.add(delay=LONG)
        assert (await h.order(Cancel(why=text), job.id, who=text)).done
        if clean(text):
            ask = (await h.job(job.id)).cancel
            assert ask is not None
            assert (ask.who, ask.why) == (text, text)
        await readable(h, job.id)

    @feature("T26")
    @every_name
    async def test_clean_text_names_keys_tags_and_ids_exactly(self, h: StoreHarness, text: str) -> None:
        job = await h.add(id=text, task=text, queue=text, key=text, unique=text, tags=(text,))
        names: list[dict[str, Any]] = [
            {"task": text},
            {"queue": text},
            {"key": text},
            {"unique": text},
            {"tag": text},
            {"text": text},
        ]
        for which in names:
            assert [found.id for found in await h.all_jobs(**which)] == [job.id]
        assert await h.claim_ids(queues=(text,)) == [text]
        assert [queue.name for queue in await h.store.queues()] == [text]

    @feature("T26")
    @every_text
    async def test_a_search_for_any_text_is_answered(self, h: StoreHarness, text: str) -> None:
        job = await h.add(payload=b'"plain"')
        found = await h.store.find(JobFilter(text=text), Page())
        assert len(found.items) == (text in '"plain"' or text in job.id)

    @feature("G8")
    async def test_data_beyond_its_limit_is_left_out_and_the_settle_goes_through(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_and_settle(Snoozed(0.0, update=b'{"kept":1}'))
        big = json.dumps({"big": "x" * (64 * 1024)}).encode()
        answer = await h.claim_and_settle(Failed(ErrorInfo("E", "e"), retryable=False, update=big))
        assert answer.state is State.FAILED
        stored = await h.job(job.id)
        assert json.loads(stored.data) == {"kept": 1}
        assert stored.last is not None
        assert "left out" in stored.last.reason

    @feature("T18")
    @pytest.mark.parametrize(
        "policy",
        [
            RetryPolicy(10_000, 1e308, 2.0, 1e308),
            RetryPolicy(10_000, 1.0, 1e100, float("inf")),
            RetryPolicy(10_000, float("inf"), 2.0, float("inf")),
            RetryPolicy(10_000, float("nan"), 2.0, 3_600.0),
            RetryPolicy(10_000, -5.0, -2.0, -1.0),
            RetryPolicy(10_000, delays=(float("inf"), float("nan"), -1.0, 1e308)),
        ],
        ids=str,
    )
    async def test_a_policy_of_mad_numbers_blocks_no_settle(self, h: StoreHarness, policy: RetryPolicy) -> None:
        job = await h.add(retry=policy)
        for _ in range(70):
            claim = await h.claim_one()
            assert (await h.settle(claim, Failed(ErrorInfo("E", "e")))).accepted is Accepted.APPLIED
            if (await h.state(job.id)) is State.RETRYING:
                await h.done(RunNow(), job.id)
        await h.claim_one()
        await h.lose()
        await readable(h, job.id)
        await h.done(Cancel(), job.id)
        await h.add()
        assert len(await h.claim()) == 1

    @feature("G19", "T18")
    @pytest.mark.parametrize("run_at", [-1e18, -1.0, 0.0, 1e12, 1e18, 1e300, 1.7e308], ids=str)
    async def test_a_time_far_away_blocks_nobody(self, h: StoreHarness, run_at: float) -> None:
        urgent = await h.add(priority=5)
        other = await h.add()
        try:
            await h.add(run_at=run_at)
            await h.order(Edit(run_at=run_at), other.id)
        except ContentError:
            assert abs(run_at) > 253_402_300_799.0, "a time before the year 10,000 was refused"
        assert (await h.claim_ids())[0] == urgent.id
        await h.store.rescue()
        for job in await h.all_jobs():
            await h.order(Cancel(), job.id)
        last = await h.add()
        assert await h.claim_ids() == [last.id]

    @feature("T18")
    @pytest.mark.parametrize("delay", [float("nan"), float("inf"), -1.0, 1e300], ids=str)
    async def test_a_wait_that_is_no_sane_number_blocks_nothing(self, h: StoreHarness, delay: float) -> None:
        job = await h.add()
        answer = await h.claim_and_settle(Snoozed(delay))
        assert answer.accepted is Accepted.APPLIED
        await h.done(Cancel(), job.id)
        other = await h.add()
        claim = await h.claim_one()
        assert claim.id == other.id
        assert (await h.settle(claim, Failed(ErrorInfo("E", "e"), retry_in=delay))).accepted is Accepted.APPLIED
        await h.store.rescue()
        await h.add()
        assert len(await h.claim()) >= 1
