"""Attempts that are rows of their own: those of a job before its last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.job.model import ATTEMPTS_KEPT, Attempt
from holdfast.stores.sql.damage import attempts_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Script, Step


def attempts_of(step: Step, seqs: Sequence[int]) -> Script[dict[int, list[Attempt]]]:
    """The stored attempts of these jobs, oldest first."""
    text = "SELECT seq, number, body FROM {attempt} WHERE seq {ints} ORDER BY seq, number"
    return attempts_from((yield step.db.q(text, list(seqs))))


def with_past(job: Job, attempts: Sequence[Attempt]) -> Job:
    """Return a job with its earlier attempts: those that are stored, but not the one that the job itself tells."""
    last = job.last.number if job.last is not None else 0
    past = tuple(one for one in attempts if one.number != last)
    return replace(job, past=past[-ATTEMPTS_KEPT:]) if past else job
