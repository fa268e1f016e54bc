"""What people steer: jobs, queues and definitions, as thin typed views of the store's control calls.

`who` says in the records who did it; `why` says why. With `preview=True` nothing changes: the answer counts what would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import msgspec

from holdfast.app import stopping
from holdfast.durations import Duration, Time, instant, seconds
from holdfast.errors import ConfigError, UnknownJob, UnknownQueue, UsageError
from holdfast.job import commands as c
from holdfast.job.content import encode_arguments
from holdfast.job.ids import check_name, check_priority
from holdfast.job.model import QueueMode, TaskStatus
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from holdfast.app.session import Session
    from holdfast.job.model import Definition, Job, Operation, Queue
    from holdfast.store import Store

    GetStore = Callable[[], Awaitable[Store]]


#: More definitions than there ever are.
_ALL: Final = 1_000_000


class Filter(TypedDict, total=False):
    """Which jobs: all that is given must match. See JobFilter."""

    states: Sequence[State | str]
    id: str
    queue: str
    task: str
    worker: str
    instance: str
    key: str
    tag: str
    unique: str
    paused_by: str
    created_after: Time
    created_before: Time
    text: str
    deleted: bool


def read_filter(given: Filter) -> c.JobFilter:
    """Return the filter of keyword arguments. Raises ConfigError for unknown fields and states, BadTime for bad times."""
    fields: dict[str, Any] = {**given}
    unknown = fields.keys() - Filter.__annotations__.keys()
    if unknown:
        known = ", ".join(Filter.__annotations__)
        raise ConfigError(f"filter: unknown field {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}.")
    for name in ("created_after", "created_before"):
        if fields.get(name) is not None:
            fields[name] = instant(fields[name], name)
    states = fields.get("states") or ()
    fields["states"] = [states] if isinstance(states, str) else list(states)
    try:
        return msgspec.convert(fields, c.JobFilter)
    except msgspec.ValidationError as error:
        names = ", ".join(State)
        raise ConfigError(f"filter: {error}. States are {names}; the rest is text.") from None


class Jobs:
    """`app.jobs`: read jobs and steer them.

    The actions take ids, or `where={"queue": "mail", "states": ["failed"]}`; one of the two. By ids the answer holds a
    ruling for each; by filter it holds counts, the first refusals and the record of the operation.
    """

    def __init__(self, store: GetStore) -> None:
        self._store = store

    async def get(self, job_id: str) -> Job:
        """Return a job. Raises UnknownJob."""
        [job] = await (await self._store()).jobs([job_id])
        if job is None:
            raise UnknownJob(job_id)
        return job

    async def list(
        self, *, limit: int = 50, cursor: str = "", newest_first: bool = True, **where: Unpack[Filter]
    ) -> c.JobPage:
        """Return a page of jobs by order of acceptance; give its `cursor` to get the next one.

        `text` is looked for in jobs of the last day, unless `created_after` says since when; such a page may have few rows or
        none, and a cursor that goes on.
        """
        page = c.Page(limit=limit, cursor=cursor, newest_first=newest_first)
        return await (await self._store()).find(read_filter(where), page)

    async def count(self, **where: Unpack[Filter]) -> c.JobCount:
        """Return how many jobs match: a number, of which `estimated` tells whether it is about so many.

        It is exact up to 100,000. `words` is how to show it: "about 1,230,000".
        """
        return await (await self._store()).count(read_filter(where))

    async def cancel(
        self, *ids: str, where: Filter | None = None, why: str = "", who: str = "", preview: bool = False
    ) -> c.Ordered:
        """End waiting jobs as canceled; ask running ones to stop."""
        return await self._order(c.Cancel(why=why), ids, where, who, preview)

    async def pause(self, *ids: str, where: Filter | None = None, who: str = "", preview: bool = False) -> c.Ordered:
        """Hold waiting jobs until they are resumed."""
        return await self._order(c.Pause(), ids, where, who, preview)

    async def resume(self, *ids: str, where: Filter | None = None, who: str = "", preview: bool = False) -> c.Ordered:
        """Let held jobs go on where they were."""
        return await self._order(c.Resume(), ids, where, who, preview)

    async def retry(self, *ids: str, where: Filter | None = None, who: str = "", preview: bool = False) -> c.Ordered:
        """Run failed or canceled jobs again in place: new budgets, history kept."""
        return await self._order(c.Retry(), ids, where, who, preview)

    async def replay(
        self,
        *ids: str,
        where: Filter | None = None,
        force: bool = False,
        arguments: Mapping[str, Any] | None = None,
        queue: str | None = None,
        who: str = "",
        preview: bool = False,
    ) -> c.Ordered:
        """Enqueue new jobs like ended ones; twice only with `force`. `arguments` and `queue` replace the old ones."""
        payload = None if arguments is None else encode_arguments(dict(arguments))
        target = None if queue is None else check_name(queue, "queue")
        return await self._order(c.Replay(force=force, payload=payload, queue=target), ids, where, who, preview)

    async def run_now(self, *ids: str, where: Filter | None = None, who: str = "", preview: bool = False) -> c.Ordered:
        """Make scheduled and retrying jobs ready."""
        return await self._order(c.RunNow(), ids, where, who, preview)

    async def edit(
        self,
        *ids: str,
        where: Filter | None = None,
        queue: str | None = None,
        priority: int | None = None,
        run_at: Time | None = None,
        arguments: Mapping[str, Any] | None = None,
        who: str = "",
        preview: bool = False,
    ) -> c.Ordered:
        """Change waiting jobs; what is left out stays as it is."""
        action = c.Edit(
            queue=None if queue is None else check_name(queue, "queue"),
            priority=None if priority is None else check_priority(priority),
            run_at=None if run_at is None else instant(run_at, "run_at"),
            payload=None if arguments is None else encode_arguments(dict(arguments)),
        )
        return await self._order(action, ids, where, who, preview)

    async def delete(
        self, *ids: str, where: Filter | None = None, hard: bool = False, who: str = "", preview: bool = False
    ) -> c.Ordered:
        """Hide jobs (waiting ones are canceled in the same step; running ones refused); `hard` purges them at once."""
        return await self._order(c.Delete(hard=hard), ids, where, who, preview)

    async def _order(
        self, action: c.Action, ids: tuple[str, ...], where: Filter | None, who: str, preview: bool
    ) -> c.Ordered:
        if bool(ids) == (where is not None):
            found = "both" if ids else "neither"
            raise UsageError(f"expected ids or where=, found {found}. To mean every job write where={{}}.")
        selection = c.Selection(ids=ids) if where is None else c.Selection(filter=read_filter(where))
        order = c.Order(action=action, selection=selection, who=who, preview=preview)
        return await (await self._store()).control(order)

    async def operations(self) -> Sequence[Operation]:
        """Return bulk operations, newest first."""
        return await (await self._store()).operations()

    async def cancel_operation(self, operation_id: str, *, who: str = "") -> Operation:
        """Stop a bulk operation after the batch it is in. Raises UnknownOperation."""
        return await (await self._store()).cancel_operation(operation_id, who)

    async def stats(self) -> c.Stats:
        """Return counts per queue and state."""
        return await (await self._store()).stats()


class Queues:
    """`app.queues`: look at queues and change their policy. Unknown ones are refused with UnknownQueue unless `create`."""

    def __init__(self, store: GetStore) -> None:
        self._store = store

    async def list(self) -> Sequence[Queue]:
        """Return all queues, by name."""
        return await (await self._store()).queues()

    async def get(self, name: str) -> Queue:
        """Return a queue. Raises UnknownQueue."""
        for queue in await self.list():
            if queue.name == name:
                return queue
        raise UnknownQueue(name)

    async def pause(self, name: str, *, why: str = "", who: str = "", create: bool = False) -> Queue:
        """Claim nothing more from a queue until it is resumed; what runs goes on."""
        return await self._change(c.ChangeQueue(name=name, paused=True, why=why, who=who, create=create))

    async def resume(self, name: str, *, who: str = "") -> Queue:
        """Let a paused queue go on."""
        return await self._change(c.ChangeQueue(name=name, paused=False, who=who))

    async def stop(
        self, *names: str, timeout: Duration | None = None, why: str = "", who: str = ""
    ) -> stopping.Stopped:
        """Pause queues, all that there are without names, and wait until nothing of them runs, at most `timeout`.

        They stay paused; the answer's `done` says whether all has ended, `running` how many jobs still run.
        """
        longest = None if timeout is None else seconds(timeout, "timeout")
        return await stopping.stop_queues(await self._store(), names, timeout=longest, why=why, who=who)

    async def limit(self, name: str, limit: int | None, *, who: str = "", create: bool = False) -> Queue:
        """Let at most `limit` of a queue's jobs run at once over the fleet; None: no limit."""
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ConfigError(
                f"limit: expected a whole number from 1, or None, found {limit!r}. To stop a queue, pause it."
            )
        return await self._change(c.ChangeQueue(name=name, limit=limit, who=who, create=create))

    async def mode(self, name: str, mode: QueueMode | str, *, who: str = "", create: bool = False) -> Queue:
        """Make a queue "serial" (one job at a time over the fleet, in order) or "concurrent"."""
        if mode not in tuple(QueueMode):
            raise ConfigError(f"mode: expected one of {', '.join(map(repr, map(str, QueueMode)))}, found {mode!r}.")
        return await self._change(c.ChangeQueue(name=name, mode=QueueMode(mode), who=who, create=create))

    async def poll(self, name: str, interval: Duration | None, *, who: str = "", create: bool = False) -> Queue:
        """Let workers look at a queue every `interval` where nothing tells them of jobs; None: as each worker says."""
        found = None if interval is None else seconds(interval, "interval", positive=True)
        return await self._change(c.ChangeQueue(name=name, poll_interval=found, who=who, create=create))

    async def rescue_after(self, name: str, lease: Duration | None, *, who: str = "", create: bool = False) -> Queue:
        """Hold a job of a queue for lost when its worker was silent for `lease`; None: as each worker says."""
        found = None if lease is None else seconds(lease, "lease", positive=True)
        return await self._change(c.ChangeQueue(name=name, rescue_after=found, who=who, create=create))

    async def keep(
        self,
        name: str,
        *,
        succeeded: Duration | msgspec.UnsetType | None = msgspec.UNSET,
        failed: Duration | msgspec.UnsetType | None = msgspec.UNSET,
        succeeded_count: int | msgspec.UnsetType | None = msgspec.UNSET,
        failed_count: int | msgspec.UnsetType | None = msgspec.UNSET,
        who: str = "",
        create: bool = False,
    ) -> Queue:
        """Keep ended jobs so long, and so many (None: for ever); `failed` counts canceled ones too."""
        change = c.ChangeQueue(
            name=name,
            who=who,
            create=create,
            keep_succeeded=_read_keep(succeeded),
            keep_failed=_read_keep(failed),
            keep_succeeded_count=succeeded_count,
            keep_failed_count=failed_count,
        )
        return await self._change(change)

    async def clear(self, name: str, *, why: str = "", who: str = "", preview: bool = False) -> c.Ordered:
        """Cancel all waiting jobs of a queue."""
        await self.get(name)
        waiting: Filter = {"queue": name, "states": [State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED]}
        return await Jobs(self._store).cancel(where=waiting, why=why, who=who, preview=preview)

    async def delete(self, name: str, *, who: str = "") -> None:
        """Forget a queue. Raises Conflict while it has unfinished jobs."""
        await (await self._store()).delete_queue(name, who)

    async def _change(self, change: c.ChangeQueue) -> Queue:
        check_name(change.name, "queue")
        return await (await self._store()).change_queue(change)


def _read_keep(value: Duration | msgspec.UnsetType | None) -> float | msgspec.UnsetType | None:
    return value if value is None or isinstance(value, msgspec.UnsetType) else seconds(value, "keep")


class Definitions:
    """`app.definitions`: the tasks that the store knows, also those whose code is elsewhere."""

    def __init__(self, store: GetStore, session: Callable[[], Awaitable[Session]]) -> None:
        self._store, self._session = store, session

    async def list(
        self, *, status: TaskStatus | str | None = None, deleted: bool = False, limit: int = _ALL, offset: int = 0
    ) -> Sequence[Definition]:
        """Return definitions by alias; with `deleted` also those that were deleted. Raises ConfigError."""
        if status is not None and status not in tuple(TaskStatus):
            raise ConfigError(
                f"status: expected one of {', '.join(map(repr, map(str, TaskStatus)))}, found {status!r}."
            )
        for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
            if type(value) is not int or value < least:
                raise ConfigError(f"{name}: expected a whole number from {least}, found {value!r}.")
        which = c.DefinitionFilter(status=status, deleted=deleted, limit=limit, offset=offset)
        return await (await self._store()).definitions(which)

    async def count(self, *, status: TaskStatus | str | None = None, deleted: bool = False) -> int:
        """Return how many definitions there are; with `deleted` also those that were deleted."""
        return len(await self.list(status=status, deleted=deleted))

    async def get(self, alias_or_id: str) -> Definition:
        """Return a definition, also a deleted one. Raises UnknownTask."""
        return await (await self._store()).definition(alias_or_id)

    async def create(self, alias: str, *, title: str = "", description: str = "", memo: str = "") -> Definition:
        """Make a definition of a task whose code is elsewhere. Raises Conflict when the alias is taken."""
        define = c.Define(
            alias=check_name(alias, "alias"), title=title, description=description, memo=memo, only_new=True
        )
        [made] = await (await self._store()).define([define])
        return made

    async def cancel(self, alias: str, *, who: str = "") -> Definition:
        """Refuse new jobs of a task and hold its waiting ones, until it is activated."""
        return await self._change(c.ChangeDefinition(alias=alias, status=TaskStatus.CANCELED, who=who))

    async def activate(self, alias: str, *, who: str = "") -> Definition:
        """Take jobs of a task again, and let its held ones go on."""
        return await self._change(c.ChangeDefinition(alias=alias, status=TaskStatus.ACTIVE, who=who))

    async def edit(self, alias: str, *, who: str = "", **texts: Unpack[DefinitionTexts]) -> Definition:
        """Change the texts of a definition, or its alias. Raises UsageError for anything else, Conflict when it is taken."""
        unknown = texts.keys() - DefinitionTexts.__annotations__.keys()
        if unknown or not texts:
            known = ", ".join(DefinitionTexts.__annotations__)
            found = ", ".join(map(repr, sorted(unknown))) or "none"
            raise UsageError(f"definitions.edit: expected some of {known}, found {found}.")
        if "new_alias" in texts:
            check_name(texts["new_alias"], "new_alias")
        return await self._change(c.ChangeDefinition(alias=alias, who=who, **texts))

    async def delete(self, alias: str, *, hard: bool = False, who: str = "") -> Definition:
        """Hide a definition: no new jobs, waiting ones are held. Its history stays. Return it as it was last.

        hard: forget it. Raises Conflict while it has unfinished jobs or schedules. Code that has the task makes it anew.
        """
        if hard:
            store = await self._store()
            known = await store.definition(alias)
            await store.delete_definition(known.id, who)
            (await self._session()).forget(known.alias)
            return known
        return await self._change(c.ChangeDefinition(alias=alias, deleted=True, who=who))

    async def restore(self, alias: str, *, who: str = "") -> Definition:
        """Bring a deleted definition back."""
        return await self._change(c.ChangeDefinition(alias=alias, deleted=False, who=who))

    async def _change(self, change: c.ChangeDefinition) -> Definition:
        return await (await self._store()).change_definition(change)


class DefinitionTexts(TypedDict, total=False):
    """What `app.definitions.edit` can change."""

    new_alias: str
    title: str
    description: str
    memo: str
