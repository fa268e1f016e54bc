"""`holdfast bench`: measure this machine, in a folder of its own that goes afterwards."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from holdfast.app import Holdfast
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.task import Task

_BATCH: Final = 1_000
_SYNCS: Final = 200


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: the median of the rounds, and its ratio to the anchor of the same run (bare syncs of this disk)."""

    name: str
    value: float
    unit: str
    ratio: float | None = None


@click.command("bench")
@click.option(
    "--jobs", "-n", default=20_000, show_default=True, type=click.IntRange(1_000, 1_000_000), help="No-op jobs a round."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--durable/--memory", default=True, help="On a journal, every step synced, or in memory.")
@shared()
def command(session: Session, jobs: int, rounds: int, durable: bool) -> int:
    """Measure syncs, enqueues and no-op jobs on this machine: medians, and ratios to bare syncs of the same disk."""
    if session.settings.url is not None:
        raise ConfigError("bench: expected no store URL: it measures in a folder of its own, below --data or /tmp.")
    parent = session.data if session.data is not None and session.data.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        syncs = _bare_syncs(Path(folder))
        measured = [session.run(_round(folder, number, jobs, durable=durable)) for number in range(rounds)]
    figures = [Figure(name="bare fdatasync of 512 bytes", value=syncs, unit="a second", ratio=1.0)]
    for name in measured[0]:
        value = statistics.median(one[name] for one in measured)
        figures.append(Figure(name=name, value=value, unit="a second", ratio=value / syncs))
    _show(session, figures, rounds, durable=durable)
    return 0


def _show(session: Session, figures: list[Figure], rounds: int, *, durable: bool) -> None:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.release()}"
    if session.out.as_json:
        session.out.value({"machine": machine, "durable": durable, "rounds": rounds, "figures": figures})
        return
    store = "journal, every enqueue, claim and settle synced" if durable else "memory"
    session.out.line(f"{machine}; {store}; median of {rounds}")
    rows = [(one.name, f"{one.value:,.0f}", one.unit, f"{one.ratio:,.2f}") for one in figures]
    session.out.table(["what", "value", "unit", "of bare syncs"], rows)


def _bare_syncs(folder: Path) -> float:
    with (folder / "syncs").open("wb") as file:
        # In a file that has its blocks already, as the journal has: growing one costs further writes each time.
        file.write(bytes(512 * _SYNCS))
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        begin = time.perf_counter()
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            os.fdatasync(file.fileno())
        return _SYNCS / (time.perf_counter() - begin)


@asynccontextmanager
async def _opened(folder: str, number: int, *, durable: bool) -> AsyncIterator[tuple[Holdfast, Task[[], None]]]:
    app = Holdfast(f"journal:{folder}/{number}" if durable else "memory:")

    @app.task("bench.nothing")
    async def nothing() -> None:
        """Do nothing."""

    async with app:
        yield app, nothing


async def _round(folder: str, number: int, jobs: int, *, durable: bool) -> dict[str, float]:
    async with _opened(folder, number, durable=durable) as (app, nothing):
        begin = time.perf_counter()
        for _ in range(100):
            await nothing.enqueue()
        single = 100 / (time.perf_counter() - begin)

        begin = time.perf_counter()
        for _ in range(10):
            await asyncio.gather(*(nothing.enqueue() for _ in range(100)))
        concurrent = 1_000 / (time.perf_counter() - begin)

        begin = time.perf_counter()
        for _ in range(jobs // _BATCH):
            await nothing.enqueue_many([()] * _BATCH)
        batched = jobs // _BATCH * _BATCH / (time.perf_counter() - begin)

        waiting = await app.jobs.count()
        begin = time.perf_counter()
        async with app.worker({"default": 100}):
            await _drained(app)
        worked = waiting / (time.perf_counter() - begin)
    return {
        "enqueues, one after the other": single,
        "enqueues, 100 at a time": concurrent,
        f"enqueues, batches of {_BATCH:,}": batched,
        "no-op jobs claimed, run and settled": worked,
    }


async def _drained(app: Holdfast) -> None:
    store = await app.open()
    while True:
        stats = await store.stats()
        if not any(stats.queues["default"][state] for state in ("queued", "running")):
            return
        await asyncio.sleep(0.01)
