"""`holdfast export`: all that a store holds, as JSON lines."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.audit import AUDIT_LIMIT, AuditFilter
from holdfast.cli.session import Session, shared
from holdfast.connect import make_audit
from holdfast.errors import ConfigError
from holdfast.job.commands import DefinitionFilter, JobFilter, LinkFilter, Page
from holdfast.wire.archive import Line, Writer
from holdfast.wire.definitions import definition_doc, schedule_doc
from holdfast.wire.documents import job_doc
from holdfast.wire.records import figure_doc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import BinaryIO

    from holdfast.audit import AuditEntry
    from holdfast.job.commands import KeyLink
    from holdfast.store import Store

_PAGE: Final = 500
#: Seconds of a figure, how many of them are kept at most, how many are read at once.
_FIGURES: Final = ((60, 170 * 60, 240), (3_600, 2_160, 240))
_ALL: Final = 1_000_000


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@shared(offline=True)
def command(session: Session, file: Path) -> int:
    """Write all that a store holds to FILE ("-": standard output), for `holdfast import` into any other store.

    Jobs with their attempts, definitions, queues, schedules, configured workers, statistics, the audit log, and under which
    epoch each sticky key had its owner. Not written: live processes, operations by filter that are under way, tokens and
    sessions of the hub. It holds payloads and results, so it is made for your eyes alone (0600). Stop the workers before you
    move house: a job that runs meanwhile runs again there.
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
    async for line in _records(store):
        yield line
    for queue in await store.queues():
        yield Line(queue=queue)
    for definition in await store.definitions(DefinitionFilter(deleted=True, limit=_ALL)):
        yield Line(definition=definition_doc(definition))
    for schedule in await store.schedules(deleted=True):
        yield Line(schedule=schedule_doc(schedule))
    for config in await store.workers():
        yield Line(worker=config)
    async for link in _links(store):
        yield Line(link=link)
    cursor = ""
    while True:
        page = await store.find(JobFilter(deleted=True), Page(limit=_PAGE, cursor=cursor, newest_first=False))
        for job in page.items:
            yield Line(job=job_doc(job))
        cursor = page.cursor
        if not cursor:
            return


async def _records(store: Store) -> AsyncIterator[Line]:
    """The audit log, oldest first, and what was counted."""
    entries: list[AuditEntry] = []
    audit = make_audit(store)
    cursor = ""
    while audit is not None:
        found = await audit.entries(AuditFilter(), Page(limit=AUDIT_LIMIT.most, cursor=cursor))
        entries += found.items
        cursor = found.cursor
        if not cursor:
            break
    for entry in reversed(entries):
        yield Line(audit=entry)
    counted: Any = store
    for span, kept, step in _FIGURES if hasattr(store, "kept_figures") else ():
        last = int(store.now() // span)
        for first in range(last - kept, last + 1, step):
            for figure in await counted.kept_figures(span, first, min(last, first + step - 1)):
                yield Line(figure=figure_doc(figure))


async def _links(store: Store) -> AsyncIterator[KeyLink]:
    after: tuple[str, str] | None = None
    while found := await store.links(LinkFilter(after=after)):
        for link in found:
            yield link
        after = (found[-1].service, found[-1].key)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file, complete or not there: written beside its place and renamed when all is in it."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ConfigError(
            f"{file}: expected a place where the export can be written, but the system refused ({error.strerror}). "
            "Nothing is left there; name another one."
        ) from error
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
