"""From what people ask for to jobs that a store takes: names, content and task are checked before anything is stored.

What a request leaves out is as the task's definition says. A batch is refused as a whole, and every fault names its place.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from holdfast.batch import Gatherer
from holdfast.durations import instant, seconds
from holdfast.errors import BadArguments, BadTime, ConfigError, ContentError, TaskInactive, TooLarge, UnknownTask
from holdfast.job.commands import ENQUEUE_BYTES_MAX, ENQUEUE_JOBS_MAX, DefinitionFilter, Enqueued
from holdfast.job.content import HEADERS_MAX, PAYLOAD_MAX, is_suspect, refuse_faults
from holdfast.job.ids import check_id, check_key, check_name, check_priority, check_tags, shown
from holdfast.job.model import NewJob, OnConflict, OnWait
from holdfast.job.parameters import misfit
from holdfast.task.service import check_sticky_key, service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.job.model import Definition
    from holdfast.job.retry import RetryPolicy
    from holdfast.store import Store
    from holdfast.wire.requests import JobRequest

    Validate = Callable[[str, bytes], bool]

#: How long definitions are taken as they were read, in seconds.
KNOWN_FOR: Final = 5.0
ATTEMPTS_MAX: Final = 10_000
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


class Intake:
    """Takes requested jobs into a store. Definitions are read again after KNOWN_FOR seconds, and before one is unknown.

    Single jobs of callers that come at the same time share one write. `validate(alias, payload)` raises BadArguments for
    tasks that it knows, and tells whether it does; those of others are held against what their definitions say. Used in
    one loop at a time.
    """

    def __init__(self, store: Store, new_id: Callable[[], str], validate: Validate | None = None) -> None:
        self._store, self._new_id, self._validate = store, new_id, validate
        self._known: dict[str, Definition] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def enqueue(self, requests: Sequence[JobRequest]) -> Sequence[Enqueued]:
        """Store all requested jobs, or none.

        Raises ContentError, ConfigError, UnknownTask, TaskInactive, DuplicateJob, TooLarge. With several requests the message
        begins with the number of the job, counted from 1.
        """
        refuse_too_many(requests)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        if loop.time() - self._read_at >= KNOWN_FOR:
            await self.refresh()
        try:
            jobs = self._jobs(requests)
        except (UnknownTask, TaskInactive):
            await self.refresh()
            jobs = self._jobs(requests)
        if len(jobs) == 1:
            return [await self._gatherer.put(jobs[0])]
        return await self._store.enqueue(jobs)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # Room for the largest job beside what has gathered, so that no batch is over the limit of one enqueue.
        limit = ENQUEUE_BYTES_MAX - PAYLOAD_MAX
        self._gatherer = Gatherer(self._store.enqueue, size=_size, items_max=ENQUEUE_JOBS_MAX, bytes_max=limit)
        self._loop, self._read_at = loop, -KNOWN_FOR

    async def refresh(self) -> None:
        """Read the definitions anew."""
        found = await self._store.definitions(DefinitionFilter(deleted=True, limit=100_000))
        self._known = {definition.alias: definition for definition in found}
        self._read_at = asyncio.get_running_loop().time()

    def _jobs(self, requests: Sequence[JobRequest]) -> list[NewJob]:
        jobs = []
        for number, request in enumerate(requests, start=1):
            try:
                jobs.append(new_job(request, self._known, self._new_id, self._validate))
            except (ContentError, ConfigError, UnknownTask, TaskInactive) as error:
                raise _at(error, number, len(requests)) from None
        return jobs


async def enqueue(
    store: Store, requests: Sequence[JobRequest], new_id: Callable[[], str], validate: Validate | None = None
) -> Sequence[Enqueued]:
    """Store all requested jobs, or none, this once. Raises as Intake does."""
    return await Intake(store, new_id, validate).enqueue(requests)


def _size(job: NewJob) -> int:
    return len(job.payload) + len(job.headers)


def refuse_too_many(requests: Sequence[JobRequest]) -> None:
    """Raise TooLarge for more than one enqueue takes."""
    advice = "Nothing was stored. Send fewer at a time."
    if len(requests) > ENQUEUE_JOBS_MAX:
        raise TooLarge("a batch", len(requests), ENQUEUE_JOBS_MAX, "jobs", advice)
    size = sum(len(bytes(request.payload)) for request in requests if isinstance(request.payload, Raw))
    if size > ENQUEUE_BYTES_MAX:
        raise TooLarge("a batch", size, ENQUEUE_BYTES_MAX, "bytes of payload", advice)


def _at(error: Exception, number: int, count: int) -> Exception:
    """Return `error` with the number of its job, when there are several."""
    if count > 1:
        error.args = (f"job {number} of {count}: {error}",)
    return error


def new_job(
    request: JobRequest,
    known: dict[str, Definition],
    new_id: Callable[[], str],
    validate: Validate | None = None,
) -> NewJob:
    """Return the job of a request for one of the `known` tasks. Raises as `enqueue`."""
    task, payload = task_and_payload(request)
    definition = _active(task, known)
    content = _content(payload, "payload", PAYLOAD_MAX)
    if validate is None or not validate(task, content):
        check_arguments(definition, content)
    own = None if request.id is None else check_id(request.id)
    timeout = definition.timeout if request.timeout is None else seconds(request.timeout, "timeout", positive=True)
    service = service_of(definition.parameters)
    if service is not None:
        check_sticky_key(task, service, request.key)
    return NewJob(
        id=own or new_id(),
        own_id=own is not None,
        task=task,
        queue=definition.queue if request.queue is None else check_name(request.queue, "queue"),
        payload=content,
        retry=_retry(request, definition),
        timeout=timeout,
        headers=_content(request.headers, "headers", HEADERS_MAX) if request.headers is not UNSET else b"",
        tags=check_tags(request.tags),
        sticky=service,
        **_timing(request),
        **_placing(request),
    )


def check_arguments(definition: Definition, payload: bytes) -> None:
    """Raise BadArguments unless a payload fits what a definition says of its task's arguments."""
    why = misfit(definition.parameters, payload)
    if why:
        raise BadArguments(f"task {definition.alias!r}: {why}")


def task_and_payload(request: JobRequest) -> tuple[str, Raw]:
    """Return the alias and the arguments; the alias may stand in the payload as `type`, as older files have it."""
    payload = request.payload if isinstance(request.payload, Raw) else Raw(b"{}")
    if request.task:
        return check_name(request.task, "task"), payload
    try:
        fields = _OBJECT.decode(payload)
        kind = msgspec.json.decode(fields.pop("type", Raw(b"null")), type=str | None)
    except msgspec.MsgspecError:
        kind = None
    if not kind:
        raise ContentError(
            'task: expected the alias of a task ("task": "mail.welcome"), or the older form "payload": {"type": …}; '
            "found neither. Say which task is to run."
        )
    return check_name(kind, "payload.type"), Raw(msgspec.json.encode(fields))


def _active(task: str, known: dict[str, Definition]) -> Definition:
    definition = known.get(task)
    if definition is None:
        raise UnknownTask(task, [one.alias for one in known.values() if one.deleted_at is None])
    if not definition.runs:
        raise TaskInactive(task, "deleted" if definition.deleted_at is not None else definition.status)
    return definition


def _content(value: Raw | UnsetType, what: str, limit: int) -> bytes:
    """Return checked JSON: an object without what some store or reader chokes on."""
    data = bytes(value) if isinstance(value, Raw) else b"{}"
    if len(data) > limit:
        raise TooLarge(what, len(data), limit, "bytes", "Store the bulk elsewhere and send its name or address.")
    if not data.lstrip().startswith(b"{"):
        raise ContentError(
            f'{what}: expected an object by name, such as {{"user_id": 42}}, found {shown(data.decode(errors="replace"))}.'
        )
    try:
        if is_suspect(data):
            refuse_faults(msgspec.json.decode(data), what)
    except RecursionError:
        raise ContentError(f"{what}: expected at most 100 levels of nesting, found more. Flatten the value.") from None
    return data


def _retry(request: JobRequest, definition: Definition) -> RetryPolicy:
    policy = request.retry.policy() if request.retry is not None else definition.retry
    if request.max_attempts is not None:
        policy = msgspec.structs.replace(policy, max_attempts=request.max_attempts)
    if not 1 <= policy.max_attempts <= ATTEMPTS_MAX:
        raise ContentError(f"max_attempts: expected 1 (never retry) to {ATTEMPTS_MAX:,}, found {policy.max_attempts}.")
    if min(policy.base, policy.cap) < 0 or policy.factor < 1:
        raise ContentError("retry: expected base and cap of 0 or more seconds and a factor of 1 or more.")
    return policy


def _timing(request: JobRequest) -> dict[str, Any]:
    if request.delay is not None and request.run_at is not None:
        raise BadTime("expected delay or run_at, found both. Leave one out.")
    if request.delay is not None:
        return {"delay": seconds(request.delay, "delay")}
    return {} if request.run_at is None else {"run_at": instant(request.run_at, "run_at")}


def _placing(request: JobRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if request.priority is not None:
        found["priority"] = check_priority(request.priority)
    if request.key is not None:
        found["key"] = check_key(request.key)
    if request.unique is not None:
        found["unique"] = check_key(request.unique, "unique")
    elif request.unique_for is not None or request.on_conflict is not None:
        raise ContentError("unique_for and on_conflict need unique. Name what must be unique.")
    if request.unique_for is not None:
        found["unique_window"] = seconds(request.unique_for, "unique_for", positive=True)
    found["on_conflict"] = request.on_conflict or OnConflict.ERROR
    found["on_wait"] = request.on_wait or OnWait.HOLD
    return found
