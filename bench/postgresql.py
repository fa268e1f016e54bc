"""The PostgreSQL store beside bare SQL and PgQueuer on the same private server, with fsync and synchronous_commit on.

Everything runs in fresh processes, interleaved, on one machine: the ratios are the promise. PgQueuer is installed into an
environment of its own in the user's cache; without it (no package index) its lines are left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

from bench.report import Figure, show
from tests.support.servers.postgres import PostgresServer, running

ROUNDS: Final = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "5"))
JOBS: Final = int(os.environ.get("HOLDFAST_BENCH_JOBS", "50000"))
SINGLES: Final = 2_000
CROWD: Final = 20_000
PICKUPS: Final = 500
PGQUEUER: Final = "pgqueuer[asyncpg]==1.6.0"
ROOT: Final = Path(__file__).parents[1]

Taken = dict[str, list[dict[str, float]]]


# --- processes -----------------------------------------------------------------------------------------------------


def start(program: list[str], url: str, action: str, count: int) -> subprocess.Popen[str]:
    """Start one of the programs of bench.peers."""
    return subprocess.Popen([*program, url, action, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a program said at its end."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args!r}: exit code {process.returncode}")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


OURS: Final = [sys.executable, "-m", "bench.peers.ours"]
RAW: Final = [sys.executable, "-m", "bench.peers.raw"]


def pgqueuer() -> list[str] | None:
    """Return how PgQueuer is run, installed first if it is not there; None when it can not be."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "holdfast-bench" / "pgqueuer"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", PGQUEUER, "uvloop"], check=False, capture_output=True)
    if done.returncode:
        print(f"PgQueuer is left out: it could not be installed into {folder}.", file=sys.stderr)
        return None
    return [str(python), str(Path(__file__).parent / "peers" / "pgqueuer_peer.py")]


class Bench:
    """One server, and what was measured on it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server, self.taken = server, dict[str, list[dict[str, float]]]()
        self.peer = pgqueuer()

    def run(self, name: str, program: list[str], url: str, action: str, count: int) -> None:
        """Run a program and keep what it said under `name`."""
        self.taken.setdefault(name, []).append(answer(start(program, url, action, count)))

    def settle_down(self, url: str) -> None:
        """Between filling and draining: statistics that are true, and nothing left to write."""
        self.server.sql("ANALYZE; CHECKPOINT", url.partition("@/")[2].partition("?")[0])

    def fresh(self) -> str:
        """The URL of a new database with our tables."""
        url = self.server.create_database()
        subprocess.run([sys.executable, "-m", "holdfast", "migrate", "--url", url], check=True, capture_output=True)
        return url

    def drop(self, url: str) -> None:
        """Remove a database."""
        self.server.sql(f"DROP DATABASE {url.partition('@/')[2].partition('?')[0]}")

    def fresh_for(self, url: str) -> str:
        """The URL of a new database; the old one goes."""
        self.drop(url)
        return self.fresh()

    # --- one round of each

    def warm_up(self) -> None:
        """Let the server make the files of its log, which it uses again: whoever writes first would pay for all others."""
        url = self.fresh()
        answer(start(OURS, url, "flood", 4 * JOBS))
        self.settle_down(url)
        self.drop(url)

    def floods(self) -> None:
        """Bulk enqueues in the largest batches."""
        for name, program in (("ours", OURS), ("peer", self.peer)):
            if program is not None:
                url = self.fresh()
                if name == "peer":
                    answer(start(program, url, "install", 0))
                self.run(f"{name} flood", program, url, "flood", JOBS)
                self.drop(url)

    def drains(self) -> None:
        """Bare SQL, ours and PgQueuer: fill, then one worker; then new tables, and two workers."""
        for name, program in (("raw", RAW), ("ours", OURS), ("peer", self.peer)):
            if program is None:
                continue
            url = self.fresh()
            if name == "peer":
                answer(start(program, url, "install", 0))
            self.run(f"{name} fill", program, url, "fill", JOBS)
            self.settle_down(url)
            self.run(f"{name} drain", program, url, "drain", JOBS)
            # New tables for each: ours purge what the first drain ended beyond 10,000 jobs, which the others never do.
            url = self.fresh_for(url)
            if name == "peer":
                answer(start(program, url, "install", 0))
            answer(start(program, url, "fill", JOBS))
            self.settle_down(url)
            action = "share" if name == "raw" else "drain"
            two = [answer(process) for process in [start(program, url, action, JOBS) for _ in range(2)]]
            passed = max(one["ended"] for one in two) - min(one["began"] for one in two)
            self.taken.setdefault(f"{name} two", []).append({"rate": JOBS / passed})
            for without in ("forget", "uncounted") if name == "ours" else ():
                url = self.fresh_for(url)
                answer(start(program, url, "fill", JOBS))
                self.settle_down(url)
                self.run(f"ours {without}", program, url, without, JOBS)
            self.drop(url)

    def others(self) -> None:
        """Single enqueues, a crowd of them, a producer beside a worker, an idle worker."""
        url = self.fresh()
        self.run("raw single", RAW, url, "single", SINGLES)
        self.run("ours single", OURS, url, "single", SINGLES)
        self.run("ours crowd", OURS, url, "crowd", CROWD)
        self.drop(url)
        url = self.fresh()
        self.run("raw both", RAW, url, "both", JOBS)
        self.run("ours both", OURS, url, "both", JOBS)
        self.drop(url)
        url = self.fresh()
        self.run("ours idle", OURS, url, "idle", PICKUPS)
        self.drop(url)

    def median(self, name: str, what: str = "rate") -> float:
        """The median of what was taken."""
        return statistics.median(one[what] for one in self.taken[name])

    def ratio(self, name: str, anchor: str, what: str = "rate") -> tuple[float, str]:
        """The median of the ratios taken in the same rounds, and what they were made of."""
        pairs = zip(self.taken[name], self.taken[anchor], strict=True)
        ratio = statistics.median(one[what] / other[what] for one, other in pairs)
        return ratio, f"{self.median(name, what):,.0f} / {self.median(anchor, what):,.0f}"


def figures(bench: Bench) -> list[Figure]:
    """The lines of the table."""
    found = [
        Figure("drain / bare claim + settle", *_line(bench, "ours drain", "raw drain", 0.60, 0.65)),
        Figure("drain / drain that keeps no statistics", *_line(bench, "ours drain", "ours uncounted", 0.90, 0.95)),
        Figure("drain / drain that keeps no ended job either", *_line(bench, "ours drain", "ours forget", 0.90, 0.95)),
        Figure("worker's CPU µs per job", bench.median("ours drain", "cpu"), 20, 12, "", less_is_better=True),
        # What a second process can bring on this machine: the bare loop with nothing but SQL, and ours beside it.
        Figure("two workers / two bare loops", *_line(bench, "ours two", "raw two", 0, 0), only_shown=True),
        Figure("two bare loops / one of them", *_line(bench, "raw two", "raw drain", 0, 0), only_shown=True),
        Figure("two workers / one of ours", *_line(bench, "ours two", "ours drain", 0, 0), only_shown=True),
        Figure("one enqueue after the other / INSERT", *_line(bench, "ours single", "raw single", 0.85, 0.85)),
        Figure("100 callers / INSERT", *_line(bench, "ours crowd", "raw single", 10, 25)),
        Figure("producer beside worker / bare", *_line(bench, "ours both", "raw both", 0.35, 0.50)),
        Figure("pick-up by an idle worker, p50 ms", bench.median("ours idle", "p50"), 2, 1.4, "", less_is_better=True),
        Figure("pick-up by an idle worker, p99 ms", bench.median("ours idle", "p99"), 4, 2.6, "", less_is_better=True),
    ]
    if bench.peer is not None:
        rss, made = bench.ratio("ours drain", "peer drain", "rss")
        found += [
            Figure("drain / PgQueuer", *_line(bench, "ours drain", "peer drain", 2, 2.5)),
            Figure("two workers / PgQueuer's two", *_line(bench, "ours two", "peer two", 1.6, 2)),
            Figure("two bare loops / PgQueuer's two", *_line(bench, "raw two", "peer two", 0, 0), only_shown=True),
            Figure("bulk enqueue, 1,000 a call / PgQueuer", *_line(bench, "ours fill", "peer fill", 2, 2)),
            Figure("bulk enqueue, 10,000 a call / PgQueuer", *_line(bench, "ours flood", "peer flood", 2, 2)),
            Figure("peak memory / PgQueuer", rss, 1.1, 1.1, f"{made} MB", less_is_better=True),
        ]
    return found


def _line(bench: Bench, name: str, anchor: str, floor: float, goal: float) -> tuple[float, float, float, str]:
    ratio, made = bench.ratio(name, anchor)
    return ratio, floor, goal, f"{made} per second"


def main() -> int:
    """Measure, and show."""
    settings: dict[str, Any] = {"shared_buffers": "512MB"}
    with running(settings=settings) as server:
        bench = Bench(server)
        bench.warm_up()
        for _ in range(ROUNDS):
            bench.drains()
            bench.others()
            bench.floods()
        return show("PostgreSQL: jobs settled in the database", figures(bench))


if __name__ == "__main__":
    sys.exit(main())
