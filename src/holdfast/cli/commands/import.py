"""`holdfast import`: what `holdfast export` wrote, into another store."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.exits import Exit
from holdfast.cli.importing import Counts, Importing, checked
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from typing import BinaryIO


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@shared()
def command(session: Session, file: Path) -> int:
    """Read what `holdfast export` wrote into the store of --url or --data ("-": from standard input).

    The whole file is checked before anything is stored. What is here already is left as it is, so the same file can be read
    again, also after an import that was interrupted. Tokens go on above all that the other store gave out. A journal that
    does not exist yet is made.
    """
    counts = session.run(_import(session, file))
    if session.out.as_json:
        session.out.value(counts)
    else:
        for one in counts.refusals:
            session.out.line(f"job {one.id}: {one.why}")
        session.out.line(
            f"{counts.jobs:,} jobs came in, {counts.left:,} were left out; {counts.queues:,} queues, "
            f"{counts.definitions:,} definitions, {counts.schedules:,} schedules, {counts.workers:,} workers came in, "
            f"{counts.kept:,} were here; {counts.records:,} figures and entries of the audit log, {counts.links:,} keys"
        )
    return int(Exit.REFUSED if counts.left else Exit.OK)


async def _import(session: Session, file: Path) -> Counts:
    with tempfile.TemporaryFile() as spool:
        _take(file, spool)
        end = checked(spool)
        async with session.store(make=True) as store:
            importing = Importing(store, end, session.who)
            spool.seek(0)
            with session.out.progress("importing", end.lines) as done:
                counts = await importing.run(spool, done)
            await session.note(store, "import", "jobs", counts.jobs)
            return counts


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
