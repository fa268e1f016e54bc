"""The engine is killed at random instants while four threads work, again and again; nothing that anybody was told is lost."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.errors import HoldfastError
from holdfast.job.commands import JobFilter, Page
from holdfast.job.ledger import Ledger, canonical, validate
from holdfast.job.ledger.snapshot import restore
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, State
from holdfast.stores.journal import JournalStore, open_journal
from holdfast.stores.journal.frames import apply_frame
from holdfast.wal import OsFiles, read_snapshot, scan
from tests.features import feature
from tests.journal.engine import OPTIONS
from tests.journal.history import Event, events_in, payload_of, violations

ROOT = Path(__file__).parents[2]


def live_and_die(folder: Path, history: Path, life: int, draw: random.Random) -> None:
    """Start an engine, kill it: mostly while it serves, now and then while it recovers."""
    command = [sys.executable, "-m", "tests.journal.engine", str(folder), str(history), str(life)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    with child, child.stdout, child.stderr:
        early = draw.random() < 0.1
        waiting = select.select([child.stdout], [], [], draw.uniform(0.2, 0.5) if early else 60.0)[0]
        if not early and (not waiting or child.stdout.readline() != "serving\n"):
            child.kill()
            raise AssertionError(f"life {life}: the engine did not start: {child.stderr.read()}")
        # The random instant. An error ends it early, and is let finish what it has to say.
        if waiting and select.select([child.stderr], [], [], draw.uniform(0.0, 0.3))[0]:
            with suppress(subprocess.TimeoutExpired):
                child.wait(5)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        problem = child.stderr.read()
    assert not problem, f"life {life}: {problem}"


def assert_snapshots_agree(folder: Path) -> None:
    """I14: from either kept snapshot, the rest of the log leads to the same state."""
    files, hashes = OsFiles(folder), set()
    for path in folder.glob("*.snap"):
        ledger, number = Ledger(), int(path.stem)
        restore(ledger, read_snapshot(files, number))
        for frame in scan(files, number + 1):
            apply_frame(ledger, frame)
        assert validate(ledger) == []
        hashes.add(canonical(ledger))
    assert len(hashes) <= 1


async def all_jobs(store: JournalStore) -> list[Job]:
    """Every job, deleted ones too."""
    found: list[Job] = []
    cursor = ""
    while True:
        page = await store.find(JobFilter(deleted=True), Page(limit=1_000, cursor=cursor, newest_first=False))
        found += page.items
        cursor = page.cursor
        if not cursor:
            return found


async def check(folder: Path, history: Path) -> int:
    """Open what is left; raise AssertionError if a promise was broken. Return how many calls were answered."""
    store = open_journal(folder, **{**OPTIONS, "freeze": False, "snapshot_interval": 0})
    await store.open()
    try:
        events = events_in(history)
        assert violations(events, await all_jobs(store)) == []
        assert validate(store.ledger) == []
        return sum(event.phase == "ok" for event in events)
    finally:
        await store.close()


def killed_many_times(tmp_path: Path, lives: int, seed: int) -> None:
    folder, history = tmp_path / "data", tmp_path / "history"
    history.mkdir()
    draw = random.Random(seed)
    for life in range(lives):
        live_and_die(folder, history, life, draw)
        if life % 10 == 9:
            assert_snapshots_agree(folder)
    answered = asyncio.run(check(folder, history))
    assert answered > lives * 10, "the clients hardly worked"
    assert (folder / "quarantine").is_dir()


@feature("A18", "B57", "BW7")
def test_a18_killed_sixty_times_at_random_instants_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    killed_many_times(tmp_path, 60, seed=18)


@pytest.mark.soak
def test_a18_killed_three_hundred_times(tmp_path: Path) -> None:
    killed_many_times(tmp_path, 300, seed=random.randrange(1 << 32))


# --- the checker finds what it is for ------------------------------------------------------------------------------


def good() -> tuple[list[Event], list[Job]]:
    """A short history without fault: two jobs, one of them claimed twice over two lives."""
    lines: list[tuple[int, str, str, str, dict[str, Any]]] = [
        (0, "e1", "enqueue", "invoke", {"ids": ("a", "b")}),
        (0, "e1", "enqueue", "ok", {"ids": ("a", "b")}),
        (0, "c1", "claim", "ok", {"ids": ("a",), "tokens": (10,)}),
        (0, "s1", "settle", "invoke", {"ids": ("a",), "tokens": (10,), "ending": "failed"}),
        (0, "s1", "settle", "ok", {"ids": ("a",), "tokens": (10,), "ending": "failed", "accepted": "applied"}),
        (0, "c2", "claim", "ok", {"ids": ("a", "b"), "tokens": (11, 12)}),
        (1, "c3", "claim", "ok", {"ids": ("a",), "tokens": (20,)}),
        (1, "s2", "settle", "invoke", {"ids": ("a",), "tokens": (20,), "ending": "succeeded"}),
        (1, "s2", "settle", "ok", {"ids": ("a",), "tokens": (20,), "ending": "succeeded", "accepted": "applied"}),
    ]
    events = [
        Event(at=float(n), life=life, call=call, kind=kind, phase=phase, **fields)
        for n, (life, call, kind, phase, fields) in enumerate(lines)
    ]
    past = (Attempt(1, 10, "i", "w", 1.0, End.FAILED), Attempt(2, 11, "i", "w", 1.0, End.LOST))
    done = Job(
        seq=1,
        id="a",
        task="t",
        payload=payload_of("a"),
        state=State.SUCCEEDED,
        attempt=3,
        token=20,
        past=past,
        last=Attempt(3, 20, "i", "w", 1.0, End.SUCCEEDED),
        finished_at=9.0,
    )
    lost = Attempt(1, 12, "i", "w", 1.0, End.LOST)
    waiting = Job(seq=2, id="b", task="t", payload=payload_of("b"), attempt=1, token=12, last=lost)
    return events, [done, waiting]


def event(at: float, kind: str, phase: str, **fields: Any) -> Event:
    """One more event."""
    return Event(at=at, life=fields.pop("life", 1), call=fields.pop("call", "more"), kind=kind, phase=phase, **fields)


def settled(at: float, token: int, ending: str) -> list[Event]:
    """One more settle that was applied."""
    named: dict[str, Any] = {"ids": ("a",), "tokens": (token,), "ending": ending}
    return [event(at, "settle", "invoke", **named), event(at + 0.1, "settle", "ok", accepted="applied", **named)]


MUTATIONS: dict[str, Any] = {
    "lost": lambda events, jobs: (events, jobs[:1]),
    "phantom:": lambda events, jobs: (events, [*jobs, replace(jobs[1], id="c", payload=payload_of("c"))]),
    "altered": lambda events, jobs: (events, [jobs[0], replace(jobs[1], payload=b"{}")]),
    "token: a was claimed with 20 after 20": lambda events, jobs: (
        [*events, event(9.0, "claim", "ok", ids=("a",), tokens=(20,), life=2)],
        jobs,
    ),
    "token: a was claimed with 5": lambda events, jobs: (
        [*events, event(9.0, "claim", "ok", ids=("a",), tokens=(5,), life=2)],
        jobs,
    ),
    "lease": lambda events, jobs: ([*events, event(9.0, "claim", "ok", ids=("b",), tokens=(13,), life=0)], jobs),
    "stale": lambda events, jobs: ([*events, *settled(9.0, 11, "failed")], jobs),
    "double: token 10": lambda events, jobs: ([*events[:5], *settled(4.5, 10, "failed"), *events[5:]], jobs),
    "double: a was settled": lambda events, jobs: ([*events, *settled(9.0, 21, "failed")], jobs),
    "undone": lambda events, jobs: (events, [replace(jobs[0], state=State.QUEUED, finished_at=None), jobs[1]]),
    "phantom end": lambda events, jobs: (events, [replace(jobs[0], token=21), jobs[1]]),
    "attempts": lambda events, jobs: (events, [replace(jobs[0], attempt=5), jobs[1]]),
    "state": lambda events, jobs: (events, [replace(jobs[0], finished_at=None), jobs[1]]),
}


def test_a_good_history_is_accepted() -> None:
    assert violations(*good()) == []


def test_an_answer_that_is_written_down_late_is_no_fault() -> None:
    """The client of token 10 was slow: its job was claimed again, and had succeeded, before it wrote down its answer."""
    events, jobs = good()
    events[4] = replace(events[4], at=8.5)
    assert violations(sorted(events, key=lambda event: event.at), jobs) == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_checker_finds_every_planted_violation(name: str) -> None:
    found = violations(*MUTATIONS[name](*good()))
    assert any(what.startswith(name) for what in found), found


def test_a_history_with_half_a_last_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "0-0.jsonl").write_text('{"at":1.0,"life":0,"call":"x","kind":"claim","phase":"invoke"}\n{"at":2.0,"li')
    assert [found.call for found in events_in(tmp_path)] == ["x"]


def test_errors_of_the_engine_are_errors_of_the_test(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises((AssertionError, HoldfastError), match="did not start"):
        live_and_die(tmp_path / "data", tmp_path, 0, random.Random(1))
