"""A handle on an enqueued job: wait for its result, look at it, steer it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar, overload

import msgspec

from holdfast.durations import Duration, seconds
from holdfast.errors import Conflict, JobCanceled, JobFailed, ResultTimeout, UnknownJob
from holdfast.job.commands import Cancel, Order, Retry, Selection, Verdict
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.job.commands import Action, Enqueued
    from holdfast.job.model import Job
    from holdfast.task.host import Host

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: How long one call of the store waits when there is no limit, in seconds.
_WAIT = 60.0


class JobHandle(Generic[R_co]):
    """A job that is stored: it will run at least once, or end where you can see it."""

    __slots__ = ("_decode", "_host", "enqueued")

    def __init__(self, host: Host, enqueued: Enqueued, decode: Callable[[bytes], R_co]) -> None:
        self._host, self._decode = host, decode
        self.enqueued = enqueued

    @property
    def id(self) -> str:
        """The id of the job: the new one, or the one that holds the id or unique key."""
        return self.enqueued.job.id

    @property
    def created(self) -> bool:
        """Whether this enqueue made the job, or it was there before."""
        return self.enqueued.verdict is Verdict.NEW

    @property
    def verdict(self) -> Verdict:
        """What the enqueue did."""
        return self.enqueued.verdict

    @property
    def sync(self) -> SyncHandle[R_co]:
        """The same for code without a loop."""
        return SyncHandle(self)

    def __repr__(self) -> str:
        return f"<job {self.id} of {self.enqueued.job.task} ({self.verdict})>"

    async def result(self, timeout: Duration | None = None) -> R_co:
        """Wait until the job has ended and return what its handler returned.

        `timeout` limits the wait (None: no limit); the job goes on whatever happens here. Raises JobFailed, JobCanceled,
        ResultTimeout, and UnknownJob when retention has purged it.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        while True:
            ended = await self._host.finished([self.id], _WAIT if limit is None else limit)
            if ended:
                return self._result_of(ended[0])
            if limit is not None:
                job = await self.get()
                text = f"not ended within {limit:g} s. It goes on: wait longer, or look with get()"
                raise ResultTimeout(self.id, job.state, text)

    def _result_of(self, job: Job) -> R_co:
        if job.state is State.SUCCEEDED:
            return _decoded(self._decode, job.result or b"null")
        asked = job.cancel.why if job.cancel else ""
        reason = job.error or (job.last.reason if job.last else "")
        if job.state is State.CANCELED:
            # Who waits for the result wants the person's words, not those of the attempt that obeyed them.
            raise JobCanceled(job.id, job.state, asked or reason)
        raise JobFailed(job.id, job.state, reason or asked)

    async def get(self) -> Job:
        """Return the job as it is now. Raises UnknownJob."""
        [job] = await self._host.read([self.id])
        if job is None:
            raise UnknownJob(self.id)
        return job

    async def cancel(self, why: str = "", *, who: str = "") -> None:
        """Cancel a waiting job at once; ask a running one to stop. Raises Conflict when it has ended."""
        await self._order(Cancel(why=why), who)

    async def retry(self, *, who: str = "") -> None:
        """Run a failed or canceled job again, with new budgets. Raises Conflict in any other state."""
        await self._order(Retry(), who)

    async def _order(self, action: Action, who: str) -> None:
        answer = await self._host.order(Order(action=action, selection=Selection(ids=(self.id,)), who=who))
        for ruling in answer.rulings:
            if not ruling.done:
                raise Conflict(f"job {self.id}: {ruling.why}")


class SyncHandle(Generic[R_co]):
    """A handle's calls for code without a loop."""

    __slots__ = ("_handle",)

    def __init__(self, handle: JobHandle[R_co]) -> None:
        self._handle = handle

    def result(self, timeout: Duration | None = None) -> R_co:
        """See JobHandle.result."""
        return self._handle._host.run_sync(self._handle.result(timeout))

    def get(self) -> Job:
        """See JobHandle.get."""
        return self._handle._host.run_sync(self._handle.get())

    def cancel(self, why: str = "", *, who: str = "") -> None:
        """See JobHandle.cancel."""
        self._handle._host.run_sync(self._handle.cancel(why, who=who))

    def retry(self, *, who: str = "") -> None:
        """See JobHandle.retry."""
        self._handle._host.run_sync(self._handle.retry(who=who))


class Handles(Sequence[JobHandle[R]]):
    """The handles of a batch, in its order. `pieces`: into how many enqueues the batch was cut; 1 is all or nothing.

    They are made when somebody first looks at one: of a bulk enqueue often nobody does.
    """

    def __init__(self, host: Host, answers: Sequence[Enqueued], decode: Callable[[bytes], R], pieces: int) -> None:
        self._host, self._answers, self._decode = host, answers, decode
        self.pieces = pieces

    @functools.cached_property
    def _handles(self) -> list[JobHandle[R]]:
        return [JobHandle(self._host, answer, self._decode) for answer in self._answers]

    def __len__(self) -> int:
        return len(self._answers)

    @overload
    def __getitem__(self, place: SupportsIndex) -> JobHandle[R]: ...

    @overload
    def __getitem__(self, place: slice) -> list[JobHandle[R]]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> JobHandle[R] | list[JobHandle[R]]:
        return self._handles[place]

    def __iter__(self) -> Iterator[JobHandle[R]]:
        return iter(self._handles)

    def __add__(self, other: Sequence[JobHandle[Any]]) -> list[JobHandle[Any]]:
        return [*self._handles, *other]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Sequence) and self._handles == list(other))

    __hash__ = None  # type: ignore[assignment]  # as a list: it equals others of the same handles

    def __repr__(self) -> str:
        return repr(self._handles)


def decode_any(data: bytes) -> Any:
    """Return JSON as plain values, for results whose type is not known."""
    return msgspec.json.decode(data)


def _decoded(decode: Callable[[bytes], R], data: bytes) -> R:
    try:
        return decode(data)
    except msgspec.ValidationError:
        # The handler returned another type than it declares, or an older version of it ran. The work was done.
        return msgspec.json.decode(data)  # type: ignore[no-any-return]
