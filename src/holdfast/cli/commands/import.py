"""`holdfast import`: what `holdfast export` wrote, into another store."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.cli.exits import Exit
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError
from holdfast.history import checked_import
from holdfast.job.commands import ChangeDefinition, ChangeQueue, Define, DefinitionFilter
from holdfast.job.model import TaskStatus
from holdfast.wire.archive import End, Line, read
from holdfast.wire.definitions import definition_of, schedule_of
from holdfast.wire.documents import job_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from holdfast.job.commands import Ruling
    from holdfast.job.model import Definition, Job, Queue
    from holdfast.store import Store

#: How many jobs, and how many bytes of the file, one step takes in.
_BATCH: Final = 1_000
_BYTES: Final = 2 * 1024 * 1024
_SHOWN: Final = 20
_QUEUE_FIELDS: Final = (
    "mode", "limit", "poll_interval", "rescue_after", "keep_succeeded", "keep_succeeded_count", "keep_failed",
    "keep_failed_count",
)  # fmt: skip


class Counts(msgspec.Struct, kw_only=True):
    """What came in."""

    queues: int = 0
    definitions: int = 0
    schedules: int = 0
    workers: int = 0
    jobs: int = 0
    left: int = 0
    refusals: list[Any] = []


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@shared()
def command(session: Session, file: Path) -> int:
    """Read what `holdfast export` wrote into the store of --url or --data ("-": from standard input).

    The whole file is checked before anything is stored. A job whose id is there already is left as it is, so the same file
    can be read again. Tokens go on above all that the other store gave out.
    """
    counts = session.run(_import(session, file))
    if session.out.as_json:
        session.out.value(counts)
    else:
        for one in counts.refusals:
            session.out.line(f"job {one.id}: {one.why}")
        session.out.line(
            f"{counts.jobs:,} jobs came in, {counts.left:,} were left out; {counts.queues:,} queues, "
            f"{counts.definitions:,} definitions, {counts.schedules:,} schedules, {counts.workers:,} workers"
        )
    return int(Exit.REFUSED if counts.left else Exit.OK)


async def _import(session: Session, file: Path) -> Counts:
    with tempfile.TemporaryFile() as spool:
        _take(file, spool)
        end = _checked(spool)
        async with session.store() as store:
            if not hasattr(store, "import_jobs"):
                raise ConfigError("expected a store that takes in jobs of another, found one that does not.")
            spool.seek(0)
            with session.out.progress("importing", end.lines) as done:
                return await _Importing(store, end, session.who).run(spool, done)


def _take(file: Path, spool: BinaryIO) -> None:
    """Keep a copy: what was checked is what is imported, also of a pipe and of a file that somebody writes to."""
    if str(file) == "-":
        shutil.copyfileobj(sys.stdin.buffer, spool)
        return
    try:
        with file.open("rb") as source:
            shutil.copyfileobj(source, spool)
    except OSError as error:
        raise ConfigError(f"{file}: expected a file to read, but the system refused ({error.strerror}).") from error


def _checked(spool: BinaryIO) -> End:
    """Look at every line before the first is stored; return what the last one says."""
    spool.seek(0)
    end = End(lines=0, jobs=0, epoch=0)
    for line in read(spool):
        if line.job is not None:
            checked_import(job_of(line.job))
        end = line.end or end
    return end


class _Importing:
    """One import: what has gathered, and what came in."""

    def __init__(self, store: Store, end: End, who: str) -> None:
        self._store, self._end, self._who = store, end, who
        self._jobs: list[Job] = []
        self._bytes = 0
        self._known: dict[str, Definition] = {}
        self.counts = Counts()

    async def run(self, spool: BinaryIO, done: Callable[[int], None] = lambda _lines: None) -> Counts:
        """Take in every line, and tell `done` of each."""
        known = await self._store.definitions(DefinitionFilter(deleted=True, limit=1_000_000))
        self._known = {one.alias: one for one in known}
        for line in read(spool):
            await self._one(line)
            done(1)
        await self._flush()
        return self.counts

    async def _one(self, line: Line) -> None:
        counts = self.counts
        if line.job is not None:
            self._jobs.append(job_of(line.job))
            self._bytes += len(self._jobs[-1].payload) + len(self._jobs[-1].result or b"") + 1_000
            if len(self._jobs) >= _BATCH or self._bytes >= _BYTES:
                await self._flush()
        elif line.queue is not None:
            await self._queue(line.queue)
            counts.queues += 1
        elif line.definition is not None:
            await self._definition(definition_of(line.definition))
            counts.definitions += 1
        elif line.schedule is not None:
            await self._store.save_schedule(schedule_of(line.schedule))
            counts.schedules += 1
        elif line.worker is not None:
            await self._store.configure_worker(line.worker)
            counts.workers += 1

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
        if one.alias not in self._known:
            await self._store.define(
                [
                    Define(
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
                ]
            )
        if not one.runs:
            deleted = one.deleted_at is not None
            status = TaskStatus.CANCELED if one.status is TaskStatus.CANCELED else msgspec.UNSET
            gone = True if deleted else msgspec.UNSET
            await self._store.change_definition(
                ChangeDefinition(alias=one.alias, who=self._who, status=status, deleted=gone)
            )

    async def _flush(self) -> None:
        if not self._jobs:
            return
        archive: Any = self._store
        rulings: list[Ruling] = list(await archive.import_jobs(self._jobs, self._end.epoch))
        self._jobs, self._bytes = [], 0
        refused = [ruling for ruling in rulings if not ruling.done]
        self.counts.jobs += len(rulings) - len(refused)
        self.counts.left += len(refused)
        self.counts.refusals += refused[: _SHOWN - len(self.counts.refusals)]
