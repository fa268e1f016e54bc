"""Acceptance scenarios of whole worker processes, on any database: `url` names an empty one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.commands import ChangeQueue
from holdfast.job.model import Job, NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from tests.sql.core.fleet import LIMIT, ROOT, Fleet, environment, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence


async def enqueue(url: str, jobs: Sequence[NewJob], *, limits: dict[str, int | str] | None = None) -> None:
    """Store jobs; `limits`: of queues over the fleet, a number or "serial"."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    for name, limit in (limits or {}).items():
        given = {"mode": limit} if isinstance(limit, str) else {"limit": limit}
        await store.change_queue(ChangeQueue(name=name, create=True, **given))
    for start in range(0, len(jobs), 1_000):
        await store.enqueue(jobs[start : start + 1_000])
    await store.close()


async def finished(url: str, ids: Sequence[str]) -> list[Job]:
    """Wait until these jobs have ended; return them."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    try:
        ended: list[Job] = []
        for start in range(0, len(ids), 500):
            ended += await store.finished(ids[start : start + 500], LIMIT)
        return ended
    finally:
        await store.close()


def notes(count: int, task: str = "shop.note") -> list[NewJob]:
    """Jobs that say their number."""
    return [
        NewJob(id=f"job-{number}", task=task, queue="work", payload=b'{"number":%d}' % number)
        for number in range(count)
    ]


async def many_processes_run_each_job_once(url: str, folder: Path, *, processes: int, jobs: int) -> None:
    """Each job has exactly one attempt, which succeeded, and its effect is there exactly once."""
    made = notes(jobs)
    await enqueue(url, made)
    with Fleet(url, folder, processes, "work=50") as fleet:
        ended = await finished(url, [job.id for job in made])
        assert len(ended) == jobs, fleet.log()[-4_000:]
    assert {(job.state, job.attempt) for job in ended} == {(State.SUCCEEDED, 1)}
    ran = fleet.lines("ran")
    assert Counter(int(number) for number, _ in ran) == dict.fromkeys(range(jobs), 1)
    assert fleet.process.returncode == 0, fleet.log()[-4_000:]


async def killed_processes_lose_nothing(url: str, folder: Path, *, processes: int, jobs: int, kills: int) -> None:
    """Workers are killed again and again: all jobs succeed, and no attempt runs twice."""
    made = notes(jobs, "shop.slow")
    await enqueue(url, made)
    with Fleet(url, folder, processes, "work=4", lease="5s") as fleet:
        killed: set[str] = set()
        for turn in range(1, kills + 1):
            lines = fleet.wait_for("began", turn * jobs // (2 * kills))
            victim = next(pid for _, _, pid in reversed(lines) if pid not in killed)
            killed.add(victim)
            os.kill(int(victim), signal.SIGKILL)
        ended = await finished(url, [job.id for job in made])
        assert len(ended) == jobs, fleet.log()[-4_000:]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    for job in ended:
        assert [one.number for one in job.attempts] == list(range(1, job.attempt + 1))
        assert job.last is not None
        assert job.last.end is End.SUCCEEDED
        assert {one.end for one in job.past} <= {End.CRASHED, End.LOST, End.RELEASED}
    began = Counter((number, attempt) for number, attempt, _ in fleet.lines("began"))
    assert max(began.values()) == 1, "an attempt began twice"
    assert {number for number, _, _ in fleet.lines("done")} == {str(number) for number in range(jobs)}


async def restarted_processes_finish_what_they_began(
    url: str, folder: Path, *, processes: int, jobs: int, turns: int = 3
) -> None:
    """Workers are replaced one after the other under load: each job runs once, and each worker ends well."""
    made = notes(jobs, "shop.slow")
    size = jobs // (turns + 1)
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(url, folder, processes, "work=4"))
        for turn in range(turns):
            await enqueue(url, made[turn * size : (turn + 1) * size])
            # It is the only one, and before it runs jobs it has no ear for signals yet.
            await asyncio.to_thread(eventually, partial(_works, fleet), "a job of the new workers")
            old, fleet = fleet, stack.enter_context(Fleet(url, folder, processes, "work=4"))
            old.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(old.process.wait, LIMIT) == 0, old.log()[-4_000:]
        await enqueue(url, made[turns * size :])
        ended = await finished(url, [job.id for job in made])
        assert len(ended) == jobs, fleet.log()[-4_000:]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    assert {job.failures for job in ended} == {0}
    began = Counter(number for number, _, _ in fleet.lines("began"))
    assert began == Counter(str(number) for number in range(jobs)), "a job ran twice though nothing was killed"


async def a_signal_at_any_point_leaves_nothing_behind(url: str, folder: Path, *, points: int) -> None:
    """Workers get a signal at each point of their dialogue with the store: each ends well and leaves no job claimed, and no
    job begins twice unless a second signal took its handler away."""
    command = [sys.executable, "-m", "tests.sql.core.signalled", url, str(points)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(url, folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT + points,
    )
    assert not done.returncode, done.stderr[-4_000:]
    said = json.loads(done.stdout)
    assert said["codes"] == {"0": 3 * (points + 1)}
    assert (said["running"], said["failed"]) == (0, 0)
    assert said["succeeded"] == len(said["began"]) >= 3 * points
    again = {name: times for name, times in said["began"].items() if times > 1}
    assert all(name.startswith("double-") for name in again), again


async def a_hogged_process_keeps_its_jobs(url: str, folder: Path, *, lease: float, leases: int) -> None:
    """A handler holds its process's interpreter for several leases: the parent's beats keep the job where it is."""
    job = NewJob(id="hog", task="shop.hog", queue="work", payload=b'{"seconds":%g}' % (lease * leases))
    await enqueue(url, [job])
    with Fleet(url, folder, 2, "work=4", lease=f"{lease:g}s") as fleet:
        [ended] = await finished(url, ["hog"])
    assert (ended.state, ended.attempt, ended.result) == (State.SUCCEEDED, 1, b"1"), fleet.log()[-4_000:]
    assert len(fleet.lines("hogs")) == 1


async def a_frozen_fleet_writes_nothing_stale(url: str, folder: Path, *, jobs: int, freezes: int) -> None:
    """Processes and their parents stand still until their leases have ended, again and again: others run their jobs, and what
    they write when they go on is refused where it is late."""
    made = notes(jobs, "shop.slow")
    await enqueue(url, made)
    with Fleet(url, folder, 1, "work=8", lease="1s") as frozen, Fleet(url, folder, 1, "work=1", lease="1s"):
        for turn in range(1, freezes + 1):
            frozen.wait_for("done", turn * jobs // (freezes + 2))
            pids = family(frozen.process.pid)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            before = _again(frozen)
            with contextlib.suppress(TimeoutError):  # who stood still between two jobs had nothing to lose
                async with asyncio.timeout(30.0):
                    while _again(frozen) == before:  # noqa: ASYNC110 - another process writes to a file
                        await asyncio.sleep(0.05)
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)
        ended = await finished(url, [job.id for job in made])
        assert len(ended) == jobs, frozen.log()[-4_000:]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    for job in ended:
        assert [one.number for one in job.attempts] == list(range(1, job.attempt + 1))
        assert {one.end for one in job.past} <= {End.LOST, End.STALE, End.RELEASED, End.CRASHED}
    began = Counter((number, attempt) for number, attempt, _ in frozen.lines("began"))
    assert max(began.values()) == 1, "an attempt began twice"
    lost = [one for job in ended for one in job.past if one.end in (End.LOST, End.STALE)]
    assert lost, "no lease ended: the fleet was not frozen while it worked"


def _works(fleet: Fleet) -> bool:
    mine = {str(pid) for pid in family(fleet.process.pid)}
    return any(pid in mine for _, _, pid in fleet.lines("began"))


def _again(fleet: Fleet) -> int:
    return sum(attempt != "1" for _, attempt, _ in fleet.lines("began"))


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


async def deaths_of_every_kind_are_counted_and_harm_no_innocent(url: str, folder: Path, *, innocents: int) -> None:
    """Handlers that end their process in every way end as failed after their attempts; all others succeed."""
    kinds = ("exit", "signal", "fault", "memory")
    killers = [
        NewJob(id=f"die-{kind}", task="shop.die", queue="work", payload=b'{"kind":"%s"}' % kind.encode(), retry=_TWICE)
        for kind in kinds
    ]
    made = notes(innocents, "shop.slow")
    await enqueue(url, [*killers, *made])
    with Fleet(url, folder, 2, "work=4", lease="5s") as fleet:
        ended = {job.id: job for job in await finished(url, [job.id for job in (*killers, *made)])}
        assert len(ended) == innocents + len(kinds), fleet.log()[-4_000:]
    for kind in kinds:
        job = ended[f"die-{kind}"]
        assert (job.state, job.failures) == (State.FAILED, 2), f"{kind}: {job}"
        assert Counter(number for number, _, _ in fleet.lines("dies"))[kind] <= job.attempt
    assert {job.state for job in ended.values() if job.task == "shop.slow"} == {State.SUCCEEDED}


_TWICE = RetryPolicy(max_attempts=2, base=0.0, factor=1.0, cap=0.0)


#: How many jobs of one queue may run at once over the fleet.
TOGETHER = 3


async def limits_hold_over_the_fleet(url: str, folder: Path, *, processes: int, jobs: int) -> None:
    """A serial queue runs one job at a time, in order; so does each key; and a limit is reached and never exceeded."""
    alone = [
        NewJob(
            id=f"alone-{number}", task="shop.alone", queue="alone", payload=b'{"line":"serial","number":%d}' % number
        )
        for number in range(jobs)
    ]
    keyed = [
        NewJob(
            id=f"key-{number}",
            task="shop.alone",
            queue="work",
            key=f"k{number % 3}",
            payload=b'{"line":"k%d","number":%d}' % (number % 3, number),
        )
        for number in range(jobs)
    ]
    few = [
        NewJob(id=f"few-{number}", task="shop.alone", queue="few", payload=b'{"line":"few","number":%d}' % number)
        for number in range(jobs)
    ]
    await enqueue(url, [*alone, *keyed, *few], limits={"alone": "serial", "few": TOGETHER})
    with Fleet(url, folder, processes, "alone=4", "work=8", "few=8") as fleet:
        ended = await finished(url, [job.id for job in (*alone, *keyed, *few)])
        assert len(ended) == 3 * jobs, fleet.log()[-4_000:]
    spans: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for line, number, begun, over in fleet.lines("span"):
        spans[line].append((float(begun), float(over), int(number)))
    limited = spans.pop("few")
    together = max(sum(one[0] <= begun < one[1] for one in limited) for begun, _, _ in limited)
    assert together == TOGETHER, f"{together} ran at once over the fleet"
    assert set(spans) == {"serial", "k0", "k1", "k2"}
    for line, runs in spans.items():
        runs.sort()
        assert [number for _, _, number in runs] == sorted(number for _, _, number in runs), f"{line} left its order"
        overlaps = [one for one, other in pairwise(runs) if one[1] > other[0]]
        assert not overlaps, f"{line} ran two at once"
