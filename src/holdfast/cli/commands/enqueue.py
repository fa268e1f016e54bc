"""`holdfast enqueue`: one job by name, or the jobs of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from msgspec import Raw

from holdfast.chance import IdMaker
from holdfast.cli.jobfile import read_job_file
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError, ContentError, DuplicateJob, HoldfastError, TaskError
from holdfast.hub import intake
from holdfast.wire.requests import JobRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.cli.jobfile import JobLine
    from holdfast.job.commands import Enqueued

_SHOWN: Final = 10


@click.command("enqueue")
@click.argument("task", required=False)
@click.argument("payload", required=False, metavar="'{JSON}'")
@click.option("--file", "-f", "file", type=click.Path(path_type=Path), help='File of jobs; "-": standard input.')
@click.option("--id", "job_id", help="Your own id; refused when it is taken.")
@click.option("--queue", "-q", help="Another queue than the task's.")
@click.option("--priority", "-p", type=int, help="-100 … 100; higher runs first.")
@click.option("--in", "--delay", "delay", metavar="5m", help="Run after this time.")
@click.option("--key", help="Jobs of one key run one at a time, in order.")
@click.option("--unique", help="At most one unfinished job of this name.")
@click.option("--timeout", metavar="30s", help="Time limit of an attempt.")
@click.option("--max-attempts", type=int, help="Failures after which it is given up.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be repeated.")
@shared()
def command(session: Session, task: str | None, payload: str | None, file: Path | None, **options: Any) -> int:
    """Enqueue one job of TASK, or those of a file: all or none.

    The file is a JSON array, or one job a line: {"task": "mail.welcome", "payload": {"user_id": 42}, "delay": "5m"}.
    """
    if (file is None) == (task is None):
        raise click.UsageError("expected a task or --file, exactly one of the two.")
    if file is not None:
        refuse_options(options)
        return session.run(_enqueue_file(session, file))
    return session.run(_enqueue(session, [_request(task, payload, options)]))


def refuse_options(options: dict[str, Any]) -> None:
    """Raise UsageError for options of a single job."""
    given = [name for name, value in options.items() if value not in (None, ())]
    if given:
        names = ", ".join(name.replace("_", "-").replace("job-id", "id").replace("tags", "tag") for name in given)
        raise click.UsageError(f"--file takes no {names}: write them into the jobs of the file.")


def _request(task: str | None, payload: str | None, options: dict[str, Any]) -> JobRequest:
    content = Raw((payload or "{}").encode("utf-8", "surrogateescape"))
    try:
        msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise ContentError(
            f"payload: expected a JSON object such as '{{\"user_id\": 42}}', found {payload!r:.80} ({error})."
        ) from None
    fields = {name: value for name, value in options.items() if value not in (None, ())}
    return JobRequest(task=task or "", payload=content, id=fields.pop("job_id", None), **fields)


async def _enqueue(session: Session, requests: Sequence[JobRequest]) -> int:
    async with session.store() as store:
        answers = await intake.enqueue(store, requests, IdMaker(session.clock.now))
    _show(session, answers)
    return 0


async def _enqueue_file(session: Session, file: Path) -> int:
    found = read_job_file(file)
    _refuse_twins(file, found)
    async with session.store() as store:
        try:
            answers = await intake.enqueue(store, [one.request for one in found], IdMaker(session.clock.now))
        except DuplicateJob as error:
            raise _at_their_lines(error, file, found) from None
        except (ContentError, ConfigError, TaskError) as error:
            raise _at_its_line(error, file, found) from None
    _show(session, answers)
    return 0


def _refuse_twins(file: Path, found: list[JobLine]) -> None:
    """Two jobs of one id in a file would be refused by the store without saying where they stand."""
    first: dict[str, JobLine] = {}
    for one in found:
        job_id = one.request.id
        if job_id is None:
            continue
        other = first.setdefault(job_id, one)
        if other is not one:
            raise ContentError(
                f"{file}:{one.line}: id {job_id!r} stands on line {other.line} already. Nothing was stored."
            )


def _at_its_line(error: HoldfastError, file: Path, found: list[JobLine]) -> HoldfastError:
    """Return the error with file and line instead of the number of the job."""
    text = str(error)
    head, colon, rest = text.partition(": ")
    words = head.split()
    if colon and len(words) == 4 and words[0] == "job" and words[1].isdecimal():
        text = f"{file}:{found[int(words[1]) - 1].line}: {rest}"
    elif len(found) == 1:
        text = f"{file}:{found[0].line}: {text}"
    else:
        text = f"{file}: {text}"
    error.args = (text if "Nothing was stored." in text else f"{text} Nothing was stored.",)
    return error


def _at_their_lines(error: DuplicateJob, file: Path, found: list[JobLine]) -> DuplicateJob:
    """Return the error with the lines of the jobs whose id or unique key is taken."""
    lines = sorted({one.line for one in found if not {one.request.id, one.request.unique}.isdisjoint(error.taken)})
    where = ", ".join(map(str, lines[:_SHOWN]))
    error.args = (f"{file}:{where}: {error}" if where else f"{file}: {error}",)
    return error


def _show(session: Session, answers: Sequence[Enqueued]) -> None:
    out = session.out
    if out.as_json:
        out.value([{"id": one.id, "verdict": one.verdict, "state": one.job.state} for one in answers])
        return
    for one in answers[:_SHOWN] if len(answers) <= _SHOWN else ():
        out.line(f"{one.id}  {one.verdict}  {one.job.state}  queue {one.job.queue}")
    queues = ", ".join(sorted({one.job.queue for one in answers}))
    noun = "job" if len(answers) == 1 else "jobs"
    out.line(f"{len(answers):,} {noun} enqueued{f' into {queues}' if queues else ''}.")
