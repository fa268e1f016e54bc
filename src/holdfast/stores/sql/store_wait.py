"""Waiting: for work, and for jobs to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from holdfast.errors import UnknownJob
from holdfast.stores.sql.attempts import attempts_of, with_past
from holdfast.stores.sql.damage import job_of
from holdfast.stores.sql.slice import DONES
from holdfast.stores.sql.store_base import SqlBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Script, Step

#: Between two looks for ended jobs, in seconds, however many end meanwhile.
_BREATH: Final = 0.005


class WaitCalls(SqlBase):
    """wait, finished, on_cancel, on_schedule."""

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as something came that `cursor` did not see."""
        self._check_open()
        if self._due is not None:
            timeout = min(timeout, max(0.0, self._due - self.now()))
        return await self._watch.wait(self._work, cursor, timeout)

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever a running job was asked to stop; return what ends this."""
        self._cancel_calls.add(call)
        return lambda: self._cancel_calls.discard(call)

    @property
    def hears_schedules(self) -> bool:
        """Where nothing is pushed, other processes are not heard of: whoever wants to know looks."""
        return False

    def on_schedule(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever a schedule or a task was changed; return what ends this."""
        self._schedule_calls.add(call)
        return lambda: self._schedule_calls.discard(call)

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait until all of these have ended, or `timeout` seconds; return those that have."""
        loop = asyncio.get_running_loop()  # real seconds, also under a steered clock: a caller waits for real
        deadline = loop.time() + timeout
        while True:
            seen = self._ends.count
            ended = await self._read(lambda step: _ended(step, ids))
            left = deadline - loop.time()
            if len(ended) == len(set(ids)) or left <= 0:
                return [ended[job_id] for job_id in ids if job_id in ended]
            await self._watch.wait(self._ends, seen, left)
            await asyncio.sleep(min(_BREATH, left))


def _ended(step: Step, ids: Sequence[str]) -> Script[dict[str, Job]]:
    """Those of these jobs that have ended. Raises UnknownJob for one that is not there."""
    wanted = sorted(set(ids))
    rows = yield step.db.q(f"{DONES} WHERE id {{texts}}", wanted)
    jobs = {job.id: job for job in map(job_of, rows)}
    missing = [job_id for job_id in wanted if job_id not in jobs]
    if missing:
        # One statement for both tables: a job that moves from one to the other just now is found in it.
        both = "SELECT id FROM {job} WHERE id {texts} UNION ALL SELECT id FROM {done} WHERE id {texts}"
        known = {job_id for (job_id,) in (yield step.db.q(both, missing, missing))}
        for job_id in missing:
            if job_id not in known:
                raise UnknownJob(job_id)
    past = yield from attempts_of(step, [job.seq for job in jobs.values()])
    return {job_id: with_past(job, past.get(job.seq, ())) for job_id, job in jobs.items()}
