"""Stacks of jobs that are alike."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.job.model import FreshJob, NewJob, OnConflict, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.stack import alike, stacked

OTHER: dict[str, Any] = {
    "task": "other", "own_id": True, "queue": "other", "priority": 1, "run_at": 1.0, "delay": 1.0,
    "retry": RetryPolicy(max_attempts=9), "timeout": 1.0, "key": "k", "on_wait": OnWait.PASS, "sticky": "s", "unique": "u",
    "unique_window": 1.0, "on_conflict": OnConflict.KEEP, "tags": ("a",), "headers": b"{}", "replay_of": "x",
}  # fmt: skip


def test_jobs_come_out_of_stacks_as_they_went_in() -> None:
    jobs = [NewJob(id=str(n), task="t", payload=b"%d" % n, priority=n // 3) for n in range(10)]
    jobs += [FreshJob(id="f", task="t", priority=3)]
    stacks = list(stacked(iter(jobs)))
    assert [len(stack.ids) for stack in stacks] == [3, 3, 3, 1, 1]
    back = [job for stack in stacks for job in stack.jobs()]
    assert back == jobs
    assert [type(job) for job in back] == [type(job) for job in jobs]
    assert sum(stack.size for stack in stacks) == 10


@pytest.mark.parametrize("field", NewJob.__struct_fields__)
def test_a_job_that_differs_in_anything_but_id_and_payload_is_not_alike(field: str) -> None:
    job = NewJob(id="a", task="t")
    other = replace(job, **{field: OTHER.get(field, b"1" if field == "payload" else "b")})
    assert alike(job, other) is (field in ("id", "payload"))
    assert alike(other, job) is (field in ("id", "payload"))


def test_no_jobs_make_no_stack() -> None:
    assert list(stacked([])) == []
