"""`make demo`: 100 real jobs through the public API; every output is checked byte for byte."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from examples.demo.plan import Piece, plan
from examples.demo.screen import attempts_table, console, dead_letters, progress_bar
from examples.demo.tasks import app

if TYPE_CHECKING:
    from rich.console import Console

    from holdfast import JobHandle
    from holdfast.job.model import Job

QUEUES = {"light": 8, "heavy": 2}


async def enqueue(pieces: list[Piece], folder: Path) -> list[JobHandle[object]]:
    """Enqueue every piece under its own id."""
    return [await app.enqueue(piece.task, piece.arguments(folder), id=piece.id) for piece in pieces]


async def work(screen: Console, pieces: list[Piece], folder: Path) -> list[Job]:
    """Run all jobs to their end, with a bar that follows them; return them."""
    handles = await enqueue(pieces, folder)
    screen.print(f"{len(handles)} jobs are stored: each packs one file of Python's own library into {folder}")
    with progress_bar(screen) as bar:
        counted = bar.add_task("working", total=len(handles), note="")
        async with app.worker(queues=QUEUES):
            for ended in asyncio.as_completed([finished(handle) for handle in handles]):
                job = await ended
                retried = "" if job.attempt == 1 else f"{job.id} took {job.attempt} attempts"
                bar.update(counted, advance=1, note=retried)
    return [await handle.get() for handle in handles]


async def finished(handle: JobHandle[object]) -> Job:
    """Wait for a job to end, however it ends."""
    store = await app.open()
    while True:
        ended = await store.finished([handle.id], timeout=60.0)
        if ended:
            return ended[0]


def account(screen: Console, pieces: list[Piece], jobs: list[Job], folder: Path) -> int:
    """Tell what happened; return the exit code."""
    screen.print(attempts_table(jobs))
    screen.print(dead_letters(jobs))
    faults = []
    for piece, job in zip(pieces, jobs, strict=True):
        digest = msgspec.json.decode(job.result) if job.result else None
        faults.append(piece.fault(folder, job.state, digest))
    found = [fault for fault in faults if fault]
    for fault in found:
        screen.print(f"[red]wrong:[/red] {fault}")
    if not found:
        good = sum(job.state == "succeeded" for job in jobs)
        screen.print(
            f"[green]All {len(jobs)} jobs are accounted for:[/green] {good} succeeded and {len(jobs) - good} are dead "
            f"letters; {good} outputs were expanded again and equal their sources, byte for byte."
        )
    return 1 if found else 0


async def main() -> int:
    """Run the demo in a temporary folder."""
    screen, pieces = console(), plan()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as name:
        folder = Path(name)
        async with app:
            jobs = await work(screen, pieces, folder)
        return account(screen, pieces, jobs, folder)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
