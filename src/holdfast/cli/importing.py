"""Takes the lines of an export into a store. What is here already is left as it is, so a file can be read again: after an
import that was interrupted it goes on, and after one that was not it changes nothing, also not what people changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import ConfigError
from holdfast.history import checked_import
from holdfast.job.commands import ChangeDefinition, ChangeQueue, Define, DefinitionFilter, KeyLink
from holdfast.job.model import TaskStatus
from holdfast.wire.archive import End, Line, read
from holdfast.wire.definitions import definition_of, schedule_of
from holdfast.wire.documents import job_of
from holdfast.wire.records import records_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from holdfast.job.commands import Ruling
    from holdfast.job.model import Definition, Job, Queue, Schedule, WorkerConfig
    from holdfast.store import Store

#: How many jobs or records, and how many bytes of the file, one step takes in.
_BATCH: Final = 1_000
_BYTES: Final = 2 * 1024 * 1024
_SHOWN: Final = 20
_QUEUE_FIELDS: Final = (
    "mode", "limit", "poll_interval", "rescue_after", "keep_succeeded", "keep_succeeded_count", "keep_failed",
    "keep_failed_count",
)  # fmt: skip


class Counts(msgspec.Struct, kw_only=True):
    """What came in. records: figures and entries of the audit log; links: keys whose epoch is known now.

    left: jobs that were left out, with why for the first; kept: queues, definitions, schedules, workers that were here.
    """

    queues: int = 0
    definitions: int = 0
    schedules: int = 0
    workers: int = 0
    records: int = 0
    links: int = 0
    jobs: int = 0
    left: int = 0
    kept: int = 0
    refusals: list[Any] = []


def checked(spool: BinaryIO) -> End:
    """Look at every line before the first is stored; return what the last one says. Raises ContentError, ConfigError."""
    spool.seek(0)
    end = End(lines=0, jobs=0, epoch=0)
    for line in read(spool):
        if line.job is not None:
            checked_import(job_of(line.job))
        _records([line])
        end = line.end or end
    return end


def _records(lines: list[Line]) -> Any:
    figures = [line.figure for line in lines if line.figure is not None]
    return records_of(figures, [line.audit for line in lines if line.audit is not None])


class Importing:
    """One import: what has gathered, and what came in."""

    def __init__(self, store: Store, end: End, who: str) -> None:
        """end: what `checked` said of the file. Raises ConfigError for a store that takes in nothing."""
        if not hasattr(store, "import_jobs"):
            raise ConfigError("expected a store that takes in jobs of another, found one that does not.")
        self._store, self._end, self._who = store, end, who
        self._archive: Any = store
        self._jobs: list[Job] = []
        self._lines: list[Line] = []  # with records
        self._links: list[KeyLink] = []
        self._bytes = 0
        self._definitions: dict[str, Definition] = {}
        self._here: dict[str, set[str]] = {}
        self.counts = Counts()

    async def run(self, spool: BinaryIO, done: Callable[[int], None] = lambda _lines: None) -> Counts:
        """Take in every line, and tell `done` of each."""
        store = self._store
        known = await store.definitions(DefinitionFilter(deleted=True, limit=1_000_000))
        self._definitions = {one.alias: one for one in known}
        self._here = {
            "queues": {one.name for one in await store.queues()},
            "schedules": {one.name for one in await store.schedules(deleted=True)},
            "workers": {one.name for one in await store.workers()},
        }
        for line in read(spool):
            await self._one(line)
            done(1)
        await self._flush()
        return self.counts

    async def _one(self, line: Line) -> None:
        if line.job is not None:
            await self._job(job_of(line.job))
        elif line.figure is not None or line.audit is not None:
            self._lines.append(line)
        elif line.link is not None:
            # Its process does not run here: what counts is that whoever gets the key has a higher epoch.
            self._links.append(KeyLink(line.link.service, line.link.key, None, "", line.link.epoch))
        else:
            await self._flush()  # entries of the audit log stand before those that the next step makes
            await self._setting(line)
        if max(len(self._lines), len(self._links)) >= _BATCH:
            await self._flush()

    async def _setting(self, line: Line) -> None:
        if line.queue is not None and self._is_new("queues", line.queue.name):
            await self._queue(line.queue)
        elif line.definition is not None:
            await self._definition(definition_of(line.definition))
        elif line.schedule is not None and self._is_new("schedules", line.schedule.name):
            schedule: Schedule = schedule_of(line.schedule)
            await self._store.save_schedule(schedule)
        elif line.worker is not None and self._is_new("workers", line.worker.name):
            config: WorkerConfig = line.worker
            await self._store.configure_worker(config)

    def _is_new(self, kind: str, name: str) -> bool:
        """Count a setting, and tell whether it is to be taken in."""
        new = name not in self._here[kind]
        counted = kind if new else "kept"
        setattr(self.counts, counted, getattr(self.counts, counted) + 1)
        return new

    async def _job(self, job: Job) -> None:
        self._jobs.append(job)
        self._bytes += len(job.payload) + len(job.result or b"") + 1_000
        if len(self._jobs) >= _BATCH or self._bytes >= _BYTES:
            await self._flush()

    async def _queue(self, queue: Queue) -> None:
        fields: dict[str, Any] = {name: getattr(queue, name) for name in _QUEUE_FIELDS}
        change = ChangeQueue(
            name=queue.name,
            who=queue.paused_by or self._who,
            create=True,
            paused=queue.paused,
            why=queue.paused_why,
            **fields,
        )
        await self._store.change_queue(change)

    async def _definition(self, one: Definition) -> None:
        known = self._definitions.get(one.alias)
        if known is None:
            self.counts.definitions += 1
            [known] = await self._store.define([_define(one)])
        else:
            self.counts.kept += 1
        # An import that was interrupted may have made it, and not switched it off: then nobody has changed it since.
        fresh = known.id == one.id and known.runs and known.updated_at == known.created_at
        if fresh and not one.runs:
            deleted = one.deleted_at is not None
            status = TaskStatus.CANCELED if one.status is TaskStatus.CANCELED else msgspec.UNSET
            gone = True if deleted else msgspec.UNSET
            await self._store.change_definition(
                ChangeDefinition(alias=one.alias, who=self._who, status=status, deleted=gone)
            )

    async def _flush(self) -> None:
        counts = self.counts
        if self._lines:
            counts.records += await self._archive.import_records(_records(self._lines))
            self._lines = []
        if self._links:
            counts.links += sum(bound.accepted for bound in await self._store.bind(self._links))
            self._links = []
        if self._jobs:
            rulings: list[Ruling] = list(await self._archive.import_jobs(self._jobs, self._end.epoch))
            self._jobs, self._bytes = [], 0
            refused = [ruling for ruling in rulings if not ruling.done]
            counts.jobs += len(rulings) - len(refused)
            counts.left += len(refused)
            counts.refusals += refused[: _SHOWN - len(counts.refusals)]


def _define(one: Definition) -> Define:
    return Define(
        alias=one.alias,
        id=one.id,
        title=one.title,
        description=one.description,
        memo=one.memo,
        queue=one.queue,
        retry=one.retry,
        timeout=one.timeout,
        parameters=one.parameters,
    )
