"""For users' tests: jobs that run at the moment they are enqueued, in the test's own loop, without a store or a worker.

The way through is the real one: the arguments are encoded and decoded, the middleware runs, the outcome becomes an ending.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import JobFailed, UnknownTask
from holdfast.job.commands import Canceled, Claim, Ending, Enqueued, Failed, Released, Snoozed, Succeeded, Verdict
from holdfast.job.model import Attempt, Job, NewJob
from holdfast.job.state import End, State
from holdfast.worker.context import Context, enter
from holdfast.worker.program import Executor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.app.holdfast import Holdfast
    from holdfast.task import TaskProgram
    from holdfast.worker.context import Line


class Inline:
    """Runs jobs at once. `jobs` are those that were run, in the order in which they began."""

    def __init__(self, app: Holdfast) -> None:
        self._app = app
        self._jobs: dict[str, Job] = {}
        self.state: Any = None  # what handlers find as ctx.state; set it in your test

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were run."""
        return list(self._jobs.values())

    def find(self, job_id: str) -> Job | None:
        """Return a job that was run, or None."""
        return self._jobs.get(job_id)

    async def run(self, new: NewJob) -> Enqueued:
        """Run a job now, whatever its delay, once; return it as it ended. Raises what its handler raises."""
        program = self._app.programs.get(new.task)
        if program is None:
            raise UnknownTask(new.task, self._app.tasks.aliases())
        job = begin(new, self._app.clock.now(), seq=len(self._jobs) + 1)
        self._jobs[job.id] = job
        claim = claim_of(job)
        try:
            ending = program.ending(await self._call(program, claim))
        except BaseException as error:
            self._jobs[job.id] = self._ended(job.id, program.failed(error))
            raise
        self._jobs[job.id] = ended = self._ended(job.id, ending)
        if isinstance(ending, Failed):
            raise JobFailed(job.id, ended.state, ending.error.text)
        return Enqueued(Verdict.NEW, ended)

    async def _call(self, program: TaskProgram, claim: Claim[Job]) -> object:
        ctx = Context(claim, self)
        variables = contextvars.copy_context()
        # A task of its own, as in a worker: the context variables that a handler sets do not leak into the test.
        return await asyncio.get_running_loop().create_task(self._attempt(program, claim, ctx), context=variables)

    async def _attempt(self, program: TaskProgram, claim: Claim[Job], ctx: Context) -> object:
        enter(ctx)
        bound = program.bind(claim, ctx)
        call: Callable[[], Awaitable[object]] = bound if program.executor is Executor.ASYNC else partial(_plain, bound)
        for middleware in reversed(self._app.hooks().middleware):
            call = partial(middleware, ctx, call)
        return await call()

    def _ended(self, job_id: str, ending: Ending) -> Job:
        job, now = self._jobs[job_id], self._app.clock.now()
        state, end, changes = _outcome(ending)
        assert job.last is not None
        error = ending.error if isinstance(ending, Failed) else None
        last = msgspec.structs.replace(
            job.last,
            end=end,
            ended_at=now,
            error_type=error.type if error else "",
            error=error.text if error else "",
            traceback=error.traceback if error else "",
            reason=getattr(ending, "reason", ""),
        )
        update = getattr(ending, "update", None)
        return msgspec.structs.replace(
            job,
            state=state,
            last=last,
            updated_at=now,
            finished_at=now if state is not State.SCHEDULED else None,
            data=_merged(job.data, update),
            **changes,
        )

    # --- the contexts' host ----------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._app.clock.now()

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._app.clock.monotonic()

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Keep what a handler reports with its job."""
        job = self._jobs[ctx.id]
        assert job.last is not None
        lines = msgspec.json.decode(job.last.log or b"[]") + ([] if line is None else [line])
        last = msgspec.structs.replace(
            job.last, progress=value or job.last.progress, log=msgspec.json.encode(lines) if lines else b""
        )
        self._jobs[ctx.id] = msgspec.structs.replace(job, last=last, data=_merged(job.data, update))


_SHARED = tuple(sorted(set(NewJob.__struct_fields__) & set(Job.__struct_fields__) - {"run_at"}))


def begin(new: NewJob, now: float, *, seq: int = 1, attempt: int = 1) -> Job:
    """Return the record of a job that runs since `now`, without any store."""
    last = Attempt(number=attempt, token=attempt, instance="inline", worker="inline", started_at=now)
    times: dict[str, Any] = {"run_at": now, "created_at": now, "updated_at": now}
    shared = {name: getattr(new, name) for name in _SHARED}
    return Job(seq=seq, state=State.RUNNING, attempt=attempt, token=attempt, last=last, **times, **shared)


def claim_of(job: Job) -> Claim[Job]:
    """Return a claim on a job that `begin` made."""
    return Claim(job, job.id, job.task, job.queue, job.token, job.attempt, job.updated_at, job.seq)


async def _plain(call: Callable[[], Any]) -> object:
    # In the test's own thread, so that what it raises, patches and asserts is where the test expects it.
    answer = call()
    return await answer if asyncio.iscoroutine(answer) else answer


def _outcome(ending: Ending) -> tuple[State, End, dict[str, Any]]:
    match ending:
        case Succeeded():
            return State.SUCCEEDED, End.SUCCEEDED, {"result": ending.result}
        case Snoozed():
            return State.SCHEDULED, End.SNOOZED, {"snoozes": 1}
        case Canceled():
            return State.CANCELED, End.CANCELED, {}
        case Released():
            return State.SCHEDULED, End.RELEASED, {}
        case _:
            return State.FAILED, End.FAILED, {"failures": 1}


def _merged(data: bytes, update: bytes | None) -> bytes:
    if update is None:
        return data
    return msgspec.json.encode({**msgspec.json.decode(data or b"{}"), **msgspec.json.decode(update)})
