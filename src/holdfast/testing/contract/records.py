"""What a job tells afterwards: its attempts and why each ended, its result, data, progress and log lines."""

from __future__ import annotations

import json

import pytest

from holdfast.job.commands import (
    Canceled,
    Crashed,
    Ending,
    ErrorInfo,
    Failed,
    Progress,
    Released,
    Settlement,
    Snoozed,
    Succeeded,
    TimedOut,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, StoreHarness

ENDS: list[tuple[Ending, End]] = [
    (Succeeded(b"1"), End.SUCCEEDED),
    (Failed(ERROR), End.FAILED),
    (TimedOut(ERROR), End.TIMED_OUT),
    (Snoozed(5.0, reason="later"), End.SNOOZED),
    (Crashed(ERROR), End.CRASHED),
    (Released("stop"), End.RELEASED),
    (Canceled("enough"), End.CANCELED),
]


class Attempts(StoreSuite):
    """One record per attempt."""

    @feature("T17")
    @pytest.mark.parametrize(("ending", "end"), ENDS, ids=[end.value for _, end in ENDS])
    async def test_an_attempt_tells_who_ran_it_when_and_why_it_ended(
        self, h: StoreHarness, ending: Ending, end: End
    ) -> None:
        job = await h.add()
        started = h.clock.now()
        claim = await h.claim_one("i7", worker="mailer", version="v3")
        h.advance(4.0)
        await h.settle(claim, ending, duration=3.5, trace_id="t1", span_id="s1")
        [attempt] = (await h.job(job.id)).attempts
        assert (attempt.number, attempt.token, attempt.instance) == (1, claim.token, "i7")
        assert (attempt.worker, attempt.version, attempt.end) == ("mailer", "v3", end)
        assert (attempt.started_at, attempt.ended_at, attempt.duration) == (started, started + 4.0, 3.5)
        assert (attempt.trace_id, attempt.span_id) == ("t1", "s1")
        if isinstance(ending, Failed | TimedOut | Crashed):
            assert (attempt.error_type, attempt.error, attempt.traceback) == tuple(
                getattr(ERROR, name) for name in ("type", "text", "traceback")
            )
        if isinstance(ending, Snoozed | Released | Canceled):
            assert attempt.reason == ending.reason

    @feature("T17", "A14")
    async def test_all_attempts_are_kept_in_order(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_and_settle(Failed(ErrorInfo("E", "first")))
        await h.claim_and_settle(Snoozed(0.0))
        await h.claim_one()
        await h.lose()
        await h.claim_one()
        await h.died()
        await h.claim_and_settle(Succeeded(b"1"))
        attempts = (await h.job(job.id)).attempts
        assert [attempt.number for attempt in attempts] == [1, 2, 3, 4, 5]
        assert [attempt.end for attempt in attempts] == [
            End.FAILED,
            End.SNOOZED,
            End.LOST,
            End.CRASHED,
            End.SUCCEEDED,
        ]
        assert attempts[0].error == "first"
        assert len({attempt.token for attempt in attempts}) == 5

    @feature("A6")
    async def test_a_late_report_is_recorded_as_stale_and_counted(self, h: StoreHarness) -> None:
        job = await h.add()
        stale = await h.claim_one("frozen")
        await h.lose()
        await h.claim_and_settle(Succeeded(b'"by the second"'), instance="second")
        refused = (await h.store.stats()).stale_refused
        await h.settle(stale, Succeeded(b'"by the first"'))
        ended = await h.job(job.id)
        assert (ended.state, ended.result) == (State.SUCCEEDED, b'"by the second"')
        assert [attempt.end for attempt in ended.attempts] == [End.STALE, End.SUCCEEDED]
        assert (await h.store.stats()).stale_refused == refused + 1

    @feature("T8")
    async def test_times_of_a_life_are_told(self, h: StoreHarness) -> None:
        start = h.clock.now()
        job = await h.add(delay=10.0)
        h.advance(20.0)
        claim = await h.claim_one()
        ready = await h.job(job.id)
        assert (ready.created_at, ready.run_at, ready.queued_at) == (start, start + 10.0, start + 20.0)
        h.advance(5.0)
        await h.settle(claim)
        ended = await h.job(job.id)
        assert (ended.finished_at, ended.updated_at) == (start + 25.0, start + 25.0)

    @feature("T18")
    async def test_the_backoff_grows_is_capped_and_half_of_it_is_drawn(self, h: StoreHarness) -> None:
        job = await h.add(retry=RetryPolicy(max_attempts=20, base=2.0, factor=2.0, cap=60.0))
        for full in (2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
            answer = await h.claim_and_settle(Failed(ERROR))
            assert answer.run_at is not None
            assert full / 2 <= answer.run_at - h.clock.now() <= full
            h.advance(61.0)
        assert (await h.job(job.id)).failures == 7

    @feature("T19", "G16")
    async def test_backoff_after_a_loss_begins_with_the_second_in_a_row(self, h: StoreHarness) -> None:
        job = await h.add(retry=RetryPolicy(max_attempts=20, base=100.0, factor=2.0, cap=1_000.0))
        waits = []
        for _ in range(4):
            await h.claim_one()
            await h.lose()
            lost = await h.job(job.id)
            waits.append((lost.state, 0.0 if lost.state is State.QUEUED else lost.run_at - h.clock.now()))
            h.advance(1_000.0)
        assert waits[0] == (State.QUEUED, 0.0)
        for (state, wait), full in zip(waits[1:], (100.0, 200.0, 400.0), strict=True):
            assert state is State.RETRYING
            assert full / 2 <= wait <= full
        await h.claim_and_settle(Failed(ERROR))
        h.advance(1_000.0)
        await h.claim_one()
        await h.lose()
        assert (await h.state(job.id)) is State.QUEUED


class Results(StoreSuite):
    """Results, data that attempts pass on, progress, log lines."""

    @feature("G8", "T8")
    async def test_result_and_data_are_written_with_the_end(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_and_settle(Succeeded(b'{"sent":3}', update=b'{"receipt":"r1"}'))
        ended = await h.job(job.id)
        assert ended.result == b'{"sent":3}'
        assert json.loads(ended.data) == {"receipt": "r1"}

    @feature("G10", "A2")
    async def test_updates_are_merged_and_kept_over_attempts(self, h: StoreHarness) -> None:
        job = await h.add()
        for n, ending in enumerate([Snoozed(0.0, update=b'{"n":1,"a":[1]}'), Snoozed(0.0, update=b'{"n":2,"b":null}')]):
            claim = await h.claim_one()
            assert bool(claim.item.data) is bool(n)
            await h.settle(claim, ending)
        claim = await h.claim_one()
        assert json.loads(claim.item.data) == {"n": 2, "a": [1], "b": None}
        await h.settle(claim, Failed(ERROR, update=b'{"n":3}'))
        await h.claim_and_settle(Canceled("no", update=b'{"c":"\\u00e9"}'))
        assert json.loads((await h.job(job.id)).data) == {"n": 3, "a": [1], "b": None, "c": "é"}

    @feature("T28")
    async def test_progress_data_and_log_lines_are_written_while_it_runs(self, h: StoreHarness) -> None:
        job = await h.add()
        claim = await h.claim_one()
        for n in (1, 2):
            log = json.dumps([[float(n), "info", f"line {n}"]]).encode()
            await h.store.progress([Progress(claim, str(n * 10).encode(), update=b'{"p":%d}' % n, log=log)])
        running = await h.job(job.id)
        assert running.last is not None
        assert (running.state, running.last.progress, json.loads(running.data)) == (State.RUNNING, b"20", {"p": 2})
        assert json.loads(running.last.log) == [[1.0, "info", "line 1"], [2.0, "info", "line 2"]]
        await h.store.settle([Settlement(claim, Succeeded(b"1"), log=b'[[3.0,"info","line 3"]]')])
        ended = await h.job(job.id)
        assert ended.last is not None
        assert [line[2] for line in json.loads(ended.last.log)] == ["line 1", "line 2", "line 3"]
        assert ended.last.progress == b"20"

    @feature("T28")
    async def test_a_progress_that_says_one_thing_leaves_the_rest(self, h: StoreHarness) -> None:
        job = await h.add()
        claim = await h.claim_one()
        await h.store.progress([Progress(claim, b"50")])
        await h.store.progress([Progress(claim, update=b'{"a":1}')])
        await h.store.progress([Progress(claim, log=b'[[1.0,"info","x"]]')])
        running = await h.job(job.id)
        assert running.last is not None
        assert (running.last.progress, json.loads(running.data)) == (b"50", {"a": 1})
        assert json.loads(running.last.log) == [[1.0, "info", "x"]]

    @feature("T28")
    async def test_progress_and_log_belong_to_their_attempt_and_data_to_the_job(self, h: StoreHarness) -> None:
        job = await h.add()
        claim = await h.claim_one()
        await h.store.progress([Progress(claim, b"50", update=b'{"a":1}', log=b'[[1.0,"info","x"]]')])
        await h.settle(claim, Failed(ERROR))
        await h.claim_one()
        running = await h.job(job.id)
        assert running.last is not None
        assert (running.last.progress, running.last.log, json.loads(running.data)) == (b"", b"", {"a": 1})
        assert (running.past[0].progress, running.past[0].log) == (b"50", b'[[1.0,"info","x"]]')

    @feature("T28")
    async def test_an_empty_update_changes_nothing(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_and_settle(Snoozed(0.0, update=b'{"a":1}'))
        await h.claim_and_settle(Succeeded(None, update=b"{}"))
        ended = await h.job(job.id)
        assert (json.loads(ended.data), ended.result) == ({"a": 1}, None)
