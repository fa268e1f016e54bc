"""Writing: jobs that ran elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest

from holdfast.errors import ConfigError, Conflict, ContentError, TooLarge, UnknownJob
from holdfast.history import (
    AttemptRecord,
    JobFilter,
    StatusUpdate,
)
from holdfast.job.commands import Replay
from holdfast.job.model import Job
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import LONG
from holdfast.testing.contract_history.harness import HistoryHarness, HistorySuite, attempt, feature


class Records(HistorySuite):
    """Writing: jobs that ran elsewhere."""

    @feature("H1", "H3")
    async def test_an_upsert_adds_a_record_and_a_second_one_overwrites_it(self, h: HistoryHarness) -> None:
        first = await h.record(task="mail", queue="a", priority=1, payload=b"[1]", created_at=5.0)
        assert (first.id, first.task, first.queue, first.payload) == ("x", "mail", "a", b"[1]")
        assert (first.origin, first.created_at, first.state) == ("external", h.now, State.QUEUED)
        made_at = h.now
        h.store.advance(5.0)
        last = attempt(2, worker="w2", error="broke", trace_id="trace")
        second = await h.record(task="no", queue="b", priority=3, payload=b"2", state=State.RETRYING, last=last)
        assert (second.task, second.created_at) == ("mail", made_at)
        assert (second.queue, second.priority, second.payload, second.state) == ("b", 3, b"2", State.RETRYING)
        assert (second.attempt, second.error, second.updated_at) == (2, "broke", h.now)
        assert second.last is not None
        assert (second.last.worker, second.last.trace_id) == ("w2", "trace")

    @feature("H1", "H2", "H6")
    async def test_a_job_of_the_engine_is_refused_with_the_whole_batch(self, h: HistoryHarness) -> None:
        job = await h.store.add(id="ours")
        await h.sync()
        with pytest.raises(Conflict, match="belongs to the engine"):
            await h.jobs.upsert([Job(seq=0, id="new", task="t"), Job(seq=0, id="ours", task="t")])
        with pytest.raises(Conflict, match="belongs to the engine"):
            await h.jobs.update_status([StatusUpdate(id="ours", state=State.FAILED)])
        with pytest.raises(Conflict, match="belongs to the engine"):
            await h.jobs.insert_attempt([AttemptRecord("ours", attempt(1))])
        assert await h.jobs.get("ours") == job
        with pytest.raises(UnknownJob):
            await h.jobs.get("new")

    @feature("H1", "H6")
    @pytest.mark.parametrize(
        ("fields", "error", "said"),
        [
            ({"id": ""}, ContentError, "id"),
            ({"id": "a\nb"}, ContentError, "id"),
            ({"id": "x" * 129}, ContentError, "128"),
            ({"queue": "no spaces"}, ConfigError, "queue"),
            ({"task": ""}, ConfigError, "task"),
            ({"priority": 101}, ContentError, "priority"),
            ({"tags": ("t",) * 2 + tuple("abcdefghijklmnopq")}, ContentError, "tags"),
            ({"payload": b" " * (1024 * 1024 + 1)}, TooLarge, "payload"),
            ({"run_at": math.nan}, ContentError, "run_at"),
            ({"finished_at": 1.7e12}, ContentError, "finished_at"),
            ({"last": attempt(0)}, ContentError, "from 1"),
            ({"last": attempt(1, started_at=math.inf)}, ContentError, "started_at"),
            ({"past": (attempt(1, duration=-1.0),)}, ContentError, "duration"),
        ],
    )
    async def test_what_can_not_be_stored_is_refused_and_named(
        self, h: HistoryHarness, fields: dict[str, Any], error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            await h.jobs.upsert([Job(**{"seq": 0, "id": "x", "task": "t", **fields})])
        assert await h.jobs.count(JobFilter()) == 0

    async def test_texts_of_errors_are_cleaned_and_never_refused(self, h: HistoryHarness) -> None:
        await h.record()
        job = await h.report(1, End.FAILED, error="nul \x00 surrogate \ud800 " + "x" * 70_000)
        assert "\x00" not in job.error
        assert "\\ud800" in job.error
        assert len(job.error.encode()) <= 64 * 1024
        await h.jobs.update_status([StatusUpdate(id="x", state=State.FAILED, attempt=2, error="\x00")])
        assert (await h.jobs.get("x")).error == "␀"

    @feature("H2")
    async def test_a_status_update_sets_state_and_newest_attempt(self, h: HistoryHarness) -> None:
        await h.record()
        update = StatusUpdate(id="x", state=State.FAILED, attempt=3, error="broke", worker="w3")
        assert await h.jobs.update_status([update]) == [True]
        job = await h.jobs.get("x")
        assert (job.state, job.attempt, job.error, job.finished_at, job.updated_at) == (
            State.FAILED, 3, "broke", h.now, h.now,
        )  # fmt: skip
        assert job.last is not None
        assert job.last.worker == "w3"

    @feature("H2")
    async def test_a_status_update_of_an_unknown_job_is_no_error(self, h: HistoryHarness) -> None:
        await h.record()
        updates = [StatusUpdate(id=name, state=State.RUNNING) for name in ("nobody", "x")]
        assert await h.jobs.update_status(updates) == [False, True]
        assert await h.ids() == ["x"]

    async def test_a_status_update_with_a_negative_attempt_is_refused(self, h: HistoryHarness) -> None:
        with pytest.raises(ContentError, match="attempt"):
            await h.jobs.update_status([StatusUpdate(id="x", state=State.RUNNING, attempt=-1)])

    @feature("H6", "H7", "HW2", "HW4")
    async def test_an_attempt_is_one_row_however_often_it_is_reported(self, h: HistoryHarness) -> None:
        await h.record()
        assert (await h.report(1)).state is State.RUNNING
        for _ in range(2):
            job = await h.report(1, End.SUCCEEDED, ended_at=903.5)
            assert job.state is State.SUCCEEDED
        [only] = await h.jobs.list_attempts("x")
        assert (only.number, only.end, only.ended_at) == (1, End.SUCCEEDED, 903.5)

    @feature("HW3")
    async def test_what_a_report_sends_is_kept_and_its_duration_follows_from_its_times(self, h: HistoryHarness) -> None:
        await h.record()
        sent = {"worker": "w9", "instance": "i9", "error": "e", "trace_id": "t", "span_id": "s", "version": "v"}
        job = await h.report(1, End.FAILED, ended_at=903.5, **sent)
        assert job.last is not None
        assert {name: getattr(job.last, name) for name in sent} == sent
        assert job.last.duration == 3.5

    @feature("H6")
    async def test_an_attempt_that_has_ended_is_never_rewritten(self, h: HistoryHarness) -> None:
        await h.record()
        await h.report(1, End.FAILED, ended_at=901.0)
        with pytest.raises(Conflict, match="never rewritten"):
            await h.report(1, End.SUCCEEDED, ended_at=901.0)

    async def test_an_attempt_of_an_unknown_job_is_refused(self, h: HistoryHarness) -> None:
        with pytest.raises(UnknownJob):
            await h.jobs.insert_attempt([AttemptRecord("nobody", attempt(1))])

    async def test_a_record_is_never_handed_to_a_worker(self, h: HistoryHarness) -> None:
        for state in State:
            await h.record(state.value, state=state)
        h.store.advance(LONG)
        await h.store.source.rescue()
        assert await h.store.claim() == ()
        assert [(await h.jobs.get(state.value)).state for state in State] == list(State)

    @feature("HW5", "HW6")
    async def test_a_record_is_replayed_as_a_job_only_once_it_has_ended(self, h: HistoryHarness) -> None:
        await h.record(state=State.RUNNING, payload=b"[7]")
        assert not (await h.store.order(Replay(), "x")).done
        await h.jobs.update_status([StatusUpdate(id="x", state=State.FAILED)])
        ruling = await h.store.order(Replay(), "x")
        assert not (await h.store.order(Replay(), "x")).done
        await h.sync()
        made = await h.jobs.get(ruling.made)
        assert (made.replay_of, made.payload, made.origin) == ("x", b"[7]", "engine")
        assert (await h.jobs.get("x")).replayed_by == made.id
