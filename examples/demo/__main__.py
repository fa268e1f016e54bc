"""`make demo`: 100 real jobs on a real node that is killed twice while it works.

Each job packs one file of Python's own library, by an async, a thread or a process handler. The node gets SIGKILL twice
and is started again. At the end every job must be accounted for, and every output is expanded again and compared.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from examples.demo.node import Node
from examples.demo.plan import JOBS, Piece, plan
from examples.demo.screen import attempts_table, console, dead_letters, interrupted, progress_bar
from holdfast import Holdfast
from holdfast.errors import StoreError
from holdfast.job.state import FINAL

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from holdfast.job.model import Job

#: The node is killed when so many jobs have ended.
KILLS = (25, 60)
LIMIT_SECONDS = 120.0
QUEUES = ("light", "heavy")


async def ended(client: Holdfast) -> int:
    """How many jobs have ended, as the node tells it."""
    stats = await (await client.open()).stats()
    return sum(stats.total(state) for state in FINAL)


async def follow(client: Holdfast, bar: Progress, line: TaskID, target: int) -> None:
    """Move the bar until `target` jobs have ended. Raises TimeoutError after LIMIT_SECONDS."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while (count := await ended(client)) < target:
            bar.update(line, completed=count)
            await asyncio.sleep(0.02)
        bar.update(line, completed=count)


async def survive(screen: Console, client: Holdfast, node: Node) -> None:
    """Kill the node twice while it works; wait until all is done."""
    with progress_bar(screen) as bar:
        line = bar.add_task("working", total=JOBS, note="")
        for kill in KILLS:
            await follow(client, bar, line, kill)
            pid = await node.kill()
            bar.console.print(f"[bold red]kill -9 {pid}[/bold red] while it worked")
            seconds = await node.start()
            client_ready = await answers(client)
            bar.console.print(
                f"[green]recovered:[/green] journal replayed and serving again {seconds:.2f} s after the start of the new "
                f"process, first answer {client_ready:.2f} s later"
            )
        await follow(client, bar, line, JOBS)


async def answers(client: Holdfast) -> float:
    """Wait until the new node answers; return the seconds."""
    begin = time.perf_counter()
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            try:
                await ended(client)
            except StoreError:
                await asyncio.sleep(0.02)
            else:
                return time.perf_counter() - begin


async def work(screen: Console, pieces: list[Piece], data: Path, outputs: Path, log: Path) -> list[Job]:
    """Start the node, give it the jobs, kill it twice, and return the jobs as it knows them at the end."""
    node = Node(data, log)
    screen.print(f"A node starts in a process of its own, ready after {await node.start():.2f} s. Its journal: {data}")
    try:
        async with Holdfast(f"journal:{data}", role="client") as client:
            for queue in QUEUES:
                await client.queues.pause(queue, why="until all jobs are enqueued", create=True)
            for piece in pieces:
                await client.enqueue(piece.task, piece.arguments(outputs), id=piece.id)
            screen.print(f"{len(pieces)} jobs are enqueued, each acknowledged after its sync to disk. Go!\n")
            for queue in QUEUES:
                await client.queues.resume(queue)
            await survive(screen, client, node)
            return [await client.jobs.get(piece.id) for piece in pieces]
    finally:
        await node.stop()


def account(screen: Console, pieces: list[Piece], jobs: list[Job], outputs: Path) -> int:
    """Tell what happened; return the exit code."""
    screen.print()
    screen.print(attempts_table(jobs))
    screen.print(interrupted(jobs))
    screen.print(dead_letters(jobs))
    faults = []
    for piece, job in zip(pieces, jobs, strict=True):
        digest = msgspec.json.decode(job.result) if job.result else None
        faults.append(piece.fault(outputs, job.state, digest))
    found = [fault for fault in faults if fault]
    for fault in found:
        screen.print(f"[red]wrong:[/red] {fault}")
    if not found:
        good = sum(job.state == "succeeded" for job in jobs)
        screen.print(
            f"[green]All {len(jobs)} jobs are accounted for:[/green] {good} succeeded, {len(jobs) - good} are dead letters "
            f"as planned. All {good} outputs were expanded again and equal their sources, byte for byte."
        )
    return 1 if found else 0


async def main() -> int:
    """Run the demo in a temporary folder."""
    screen, pieces = console(), plan()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as name:
        folder = Path(name)
        outputs = folder / "packed"
        outputs.mkdir()
        jobs = await work(screen, pieces, folder / "data", outputs, folder / "node.log")
        code = account(screen, pieces, jobs, outputs)
    screen.print(f"Took {time.perf_counter() - begin:.0f} s. Try it yourself: holdfast run examples.demo.tasks:app")
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
