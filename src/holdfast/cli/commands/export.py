"""`holdfast export`: all that a store holds, as JSON lines."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from holdfast.cli.session import Session, shared
from holdfast.job.commands import DefinitionFilter, JobFilter, Page
from holdfast.wire.archive import Line, Writer
from holdfast.wire.definitions import definition_doc, schedule_doc
from holdfast.wire.documents import job_doc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import BinaryIO

    from holdfast.store import Store

_PAGE: Final = 500
_ALL: Final = 1_000_000


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@shared(offline=True)
def command(session: Session, file: Path) -> int:
    """Write jobs with their attempts, definitions, queues, schedules and workers to FILE ("-": standard output).

    `holdfast import` reads it into any other store. It holds payloads and results, so it is made for your
    eyes alone (0600). Stop the workers before you move house: a job that runs meanwhile runs again there.
    """
    jobs = session.run(_export(session, file))
    session.out.note(f"{jobs:,} jobs were written to {file}")
    if session.out.as_json and str(file) != "-":
        session.out.value({"file": str(file), "jobs": jobs})
    return 0


async def _export(session: Session, file: Path) -> int:
    jobs = 0
    async with session.store() as store:
        expected = await store.count(JobFilter(deleted=True))
        with _opened(file) as out, session.out.progress("exporting", expected) as done:
            writer = Writer()
            out.write(writer.head(store.now()))
            async for line in _lines(store):
                if line.job is not None:
                    jobs += 1
                    done(1)
                out.write(writer.line(line))
            out.write(writer.end())
    return jobs


async def _lines(store: Store) -> AsyncIterator[Line]:
    for queue in await store.queues():
        yield Line(queue=queue)
    for definition in await store.definitions(DefinitionFilter(deleted=True, limit=_ALL)):
        yield Line(definition=definition_doc(definition))
    for schedule in await store.schedules(deleted=True):
        yield Line(schedule=schedule_doc(schedule))
    for config in await store.workers():
        yield Line(worker=config)
    cursor = ""
    while True:
        page = await store.find(JobFilter(deleted=True), Page(limit=_PAGE, cursor=cursor, newest_first=False))
        for job in page.items:
            yield Line(job=job_doc(job))
        cursor = page.cursor
        if not cursor:
            return


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file, complete or not there: written beside its place and renamed when all is in it."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
