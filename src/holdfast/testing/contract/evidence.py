"""What an attempt keeps as evidence, of whoever ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.job.commands import Failed, Progress
from holdfast.job.model import TRAIL_KEPT, InstanceState
from holdfast.job.state import End
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, LEASE

if TYPE_CHECKING:
    from holdfast.testing.contract.harness import StoreHarness


class Evidence(StoreSuite):
    """Attempts as evidence."""

    @feature("H6", "H7", "HW3")
    async def test_an_attempt_tells_who_ran_it_when_and_all_that_it_reported(self, h: StoreHarness) -> None:
        ready = h.clock.now()
        await h.add()
        h.advance(5.0)
        claim = await h.claim_one("i7", worker="mailer", version="1.2")
        h.advance(1.0)
        for number in range(3):
            await h.store.progress([Progress(claim, b"%d" % number, log=b'[[1.0,"info","line %d"]]' % number)])
            h.advance(1.0)
        await h.settle(claim, Failed(ERROR, retryable=False), duration=3.5, trace_id="trace", span_id="span")
        last = (await h.job(claim.id)).last
        assert last is not None
        assert (last.number, last.token, last.instance, last.worker, last.version) == (
            1,
            claim.token,
            "i7",
            "mailer",
            "1.2",
        )
        assert (last.queued_at, last.started_at, last.ended_at) == (ready, ready + 5.0, ready + 9.0)
        assert (last.heartbeat_at, last.duration, last.end) == (ready + 9.0, 3.5, End.FAILED)
        assert (last.error_type, last.error, last.traceback) == (ERROR.type, ERROR.text, ERROR.traceback)
        assert (last.trace_id, last.span_id, last.progress) == ("trace", "span", b"2")
        assert msgspec.json.decode(last.trail) == [[ready + 6.0 + number, number] for number in range(3)]
        assert [text for _, _, text in msgspec.json.decode(last.log)] == ["line 0", "line 1", "line 2"]

    @feature("H6")
    async def test_the_trail_keeps_the_newest_reports(self, h: StoreHarness) -> None:
        await h.add()
        claim = await h.claim_one()
        for number in range(TRAIL_KEPT + 2):
            await h.store.progress([Progress(claim, b"%d" % number)])
        await h.settle(claim)
        last = (await h.job(claim.id)).last
        assert last is not None
        assert [value for _, value in msgspec.json.decode(last.trail)] == list(range(2, TRAIL_KEPT + 2))

    @feature("HW10")
    async def test_a_lost_attempt_tells_when_its_worker_was_last_heard_of(self, h: StoreHarness) -> None:
        [job_id] = await h.make()
        await h.claim_one("i7")
        h.advance(10.0)
        await h.beat("i7", state=InstanceState.READY)
        heard = h.clock.now()
        await h.lose()
        last = (await h.job(job_id)).last
        assert last is not None
        assert (last.end, last.heartbeat_at, last.ended_at) == (End.LOST, heard, heard + LEASE + 1.0)

    @feature("HW10")
    async def test_of_a_worker_that_never_beat_the_claim_was_the_last_word(self, h: StoreHarness) -> None:
        [job_id] = await h.make()
        claimed = h.clock.now()
        await h.claim_one("i7")
        h.advance(3.0)
        await h.died("i7")
        last = (await h.job(job_id)).last
        assert last is not None
        assert (last.end, last.heartbeat_at) == (End.CRASHED, claimed)

    async def test_each_attempt_of_a_job_has_its_own_times(self, h: StoreHarness) -> None:
        [job_id] = await h.make()
        times: list[tuple[float, float, float]] = []
        for _ in range(3):
            ready = h.clock.now()
            h.advance(2.0)
            claim = await h.claim_one()
            h.advance(4.0)
            await h.settle(claim, Failed(ERROR))
            times.append((ready, ready + 2.0, ready + 6.0))
        attempts = (await h.job(job_id)).attempts
        found = [(one.queued_at, one.started_at, one.heartbeat_at) for one in attempts]
        assert found[0] == times[0]
        assert [(started, heard) for _, started, heard in found] == [(started, heard) for _, started, heard in times]
        # Its backoff is 0 seconds: it is ready again as soon as somebody looks.
        assert all(queued is not None and queued <= started for queued, started, _ in found)
