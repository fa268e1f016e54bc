"""What a full history and a snapshot that is kept cost a worker on PostgreSQL: drains with and without, interleaved.

The history's rows are made by one statement. The snapshot belongs to a transaction that stays open while jobs are enqueued
and worked off for two minutes, so that vacuum can clear nothing of what they leave behind; then the drains are measured.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from bench.postgresql import JOBS, OURS, answer, start
from bench.report import Figure, show
from holdfast.stores.sql.dialects.postgresql_texts import kind
from tests.support.servers.postgres import PostgresServer, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))
FINISHED: Final = int(os.environ.get("HOLDFAST_BENCH_FINISHED", "10000000"))
PINNED_SECONDS: Final = float(os.environ.get("HOLDFAST_BENCH_PINNED", "120"))

_FINISH: Final = f"""
CREATE TEMP TABLE made AS SELECT indexdef FROM pg_indexes WHERE tablename = 'holdfast_done' AND indexname NOT LIKE '%pkey';
DROP INDEX holdfast_done_id, holdfast_done_ended;
INSERT INTO holdfast_done (seq, id, payload, queue, task, prio, state, ready, run_at, created_at, queued_at, updated_at,
    lane, pod_epoch, suspect, attempt, token, worker, version, lease_until, cancel_asked, finished_at, instance, started_at,
    kind)
SELECT -n, 'done-' || n, convert_to(repeat('x', 100), 'UTF8'), 'default', 'nothing', 0, 6, 0, at, at, at, at,
       0, 0, 0, 1, 4294967296, 'w', '', 0, 0, at, 'i', at, {kind("'default'", "'nothing'", "'w'", "6::smallint")}
  FROM (SELECT n, (extract(epoch FROM now()) * 1e6)::bigint - n::bigint * 1000 AS at
          FROM generate_series(1, {FINISHED}) AS n) AS one;
DO $$ DECLARE text text; BEGIN
    FOR text IN SELECT indexdef FROM made WHERE indexdef ~ 'done_(id|ended) ' LOOP EXECUTE text; END LOOP;
END $$;
ANALYZE holdfast_done;
"""


class Depth:
    """Databases of one server, drained in turn."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.rates: dict[str, list[float]] = {}

    def fresh(self) -> str:
        """The URL of a new database with our tables."""
        url = self.server.create_database()
        subprocess.run([sys.executable, "-m", "holdfast", "migrate", "--url", url], check=True, capture_output=True)
        return url

    def round(self, url: str, name: str = "") -> None:
        """Fill, write everything down, drain; keep the drain's rate under `name`."""
        answer(start(OURS, url, "fill", JOBS))
        self.server.sql("CHECKPOINT", database(url))
        rate = answer(start(OURS, url, "drain", JOBS + 1))["rate"]
        if name:
            self.rates.setdefault(name, []).append(rate)

    def figure(self, name: str, anchor: str, what: str) -> Figure:
        """The line of the table: the median of the ratios of the same rounds."""
        pairs = list(zip(self.rates[name], self.rates[anchor], strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        made = " / ".join(f"{statistics.median(self.rates[one]):,.0f}" for one in (name, anchor))
        return Figure(what, ratio, 0.9, 1.0, f"{made} jobs/s")


def database(url: str) -> str:
    """The name of the database of a URL."""
    return url.partition("@/")[2].partition("?")[0]


def pinned(server: PostgresServer, url: str) -> Iterator[None]:
    """Keep a snapshot of a database, by a transaction that does nothing."""
    program = [str(server._bin / "psql"), "-X", "-q", "-h", str(server.folder), "-U", "postgres", "-d", database(url)]
    keeper = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 'kept' FROM holdfast_meta;\n")
    keeper.stdin.flush()
    while "kept" not in keeper.stdout.readline():
        pass
    yield
    keeper.communicate("ROLLBACK;\n")


def main() -> int:
    """Measure, and show."""
    settings = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
    with running(settings=settings) as server:
        depth = Depth(server)
        bare, full, kept = depth.fresh(), depth.fresh(), depth.fresh()
        server.sql(_FINISH, database(full))
        for url in (bare, full, kept):
            depth.round(url)
        for _ in range(ROUNDS):
            depth.round(bare, "bare")
            depth.round(full, "full")
        held = pinned(server, kept)
        next(held)
        until = time.monotonic() + PINNED_SECONDS
        while time.monotonic() < until:
            depth.round(kept)
        for _ in range(ROUNDS):
            depth.round(bare, "without")
            depth.round(kept, "kept")
        next(held, None)
    return show(
        "PostgreSQL: drains beside much that is over",
        [
            depth.figure("full", "bare", f"with {FINISHED:,} finished jobs / with none"),
            depth.figure("kept", "without", f"with a snapshot kept for {PINNED_SECONDS:.0f} s / without"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
