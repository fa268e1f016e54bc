"""What the demo shows: a bar while it works, and the story at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.job.model import Attempt, Job


def console() -> Console:
    """The screen."""
    return Console(highlight=False)


def progress_bar(screen: Console) -> Progress:
    """A bar that counts finished jobs."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=screen,
    )


def attempts_table(jobs: Iterable[Job]) -> Table:
    """Per task: the jobs' states, and why their attempts ended."""
    by_task: dict[str, list[Job]] = {}
    for job in jobs:
        by_task.setdefault(job.task, []).append(job)
    table = Table(title="What happened")
    for heading in ("task", "jobs", "states", "attempts", "why attempts ended"):
        table.add_column(heading, justify="right" if heading in ("jobs", "attempts") else "left")
    for task, members in sorted(by_task.items()):
        attempts = [attempt for job in members for attempt in job.attempts]
        states = Counter(job.state.value for job in members)
        ends = Counter(attempt.end.value if attempt.end else "running" for attempt in attempts)
        table.add_row(task, str(len(members)), _counts(states), str(len(attempts)), _counts(ends))
    return table


def interrupted(jobs: Iterable[Job]) -> Table:
    """Those that a kill cut off, and how they went on."""
    table = Table(title="Cut off by a kill, and run again")
    for heading in ("job", "task", "attempts", "what its attempts say"):
        table.add_column(heading)
    for job in jobs:
        if any(attempt.end in ("lost", "crashed", "stale") for attempt in job.attempts):
            story = "; then ".join(_told(attempt) for attempt in job.attempts)
            table.add_row(job.id, job.task, str(job.attempt), story)
    return table


def _told(attempt: Attempt) -> str:
    end = attempt.end.value if attempt.end else "running"
    why = attempt.reason or attempt.error
    return f"{end} ({why})" if why else end


def dead_letters(jobs: Iterable[Job]) -> Table:
    """Those that gave up, with the last error."""
    table = Table(title="Dead letters: kept until a person acts")
    for heading in ("job", "task", "attempts", "last error"):
        table.add_column(heading)
    for job in jobs:
        if job.state == "failed":
            table.add_row(job.id, job.task, str(job.attempt), job.error)
    return table


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())
