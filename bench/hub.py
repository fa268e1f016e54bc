"""The hub over HTTP: how fast one core takes jobs in, and how long a page of a long list takes.

    python -m bench hub              both parts
    python -m bench.hub intake       single requests and batches, on a journal that syncs
    python -m bench.hub pages        pages of 50 by each indexed filter over 1,000,000 jobs on PostgreSQL

The server has one core to itself (taskset), the client another. HOLDFAST_BENCH_JOBS sets the length of the list.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.report import Figure, show
from holdfast.stores.sql.dialects.postgresql_texts import kind

ROOT: Final = Path(__file__).parents[1]
ROUNDS: Final = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))
JOBS: Final = int(os.environ.get("HOLDFAST_BENCH_JOBS", "1000000"))
SINGLES: Final = 15_000
BATCHED: Final = 200_000
ASKED: Final = 100
QUEUES: Final = 20
TASKS: Final = 10
KEYS: Final = 5_000


@contextmanager
def hub(*arguments: str) -> Iterator[tuple[int, str]]:
    """A hub on core 0; its port and its token."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        command = [sys.executable, "-m", "holdfast", *arguments, "--data", str(data), "--json", "--port", "0"]
        environment = {**os.environ, "HOLDFAST_RATE_LIMIT": "1000000", "PYTHONPATH": str(ROOT / "src")}
        process = subprocess.Popen(
            ["taskset", "-c", "0", *command, "--metrics-port", "0", "--log-level", "warning"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            info: dict[str, Any] = json.loads(process.stdout.readline())
            yield int(info["url"].rpartition(":")[2]), (data / "token").read_text().strip()
        finally:
            process.terminate()
            process.wait(30)


def client(port: int, token: str, action: str, count: int, given: str = "") -> dict[str, Any]:
    """Run the client on core 1; return what it says."""
    core = str(1 % (os.cpu_count() or 1))
    command = [
        "taskset",
        "-c",
        core,
        sys.executable,
        "-m",
        "bench.peers.http_client",
        str(port),
        token,
        action,
        str(count),
    ]
    said = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return answer


def define(port: int, token: str) -> None:
    """Make the task known."""
    import urllib.request

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/definitions",
        json.dumps({"definitions": [{"alias": "mail.welcome"}]}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def intake() -> list[Figure]:
    """Single requests and batches on a journal."""
    rates: dict[str, list[float]] = {"singles": [], "batches": []}
    for _ in range(ROUNDS):
        with hub("run") as (port, token):
            define(port, token)
            client(port, token, "singles", 500)
            for action, count in (("singles", SINGLES), ("batches", BATCHED)):
                said = client(port, token, action, count)
                rates[action].append(said["count"] / said["seconds"])
    singles, batches = statistics.median(rates["singles"]), statistics.median(rates["batches"])
    return [
        Figure("single enqueues over HTTP, thousands/s", singles / 1e3, 3.0, 4.0, "64 connections, journal, synced"),
        Figure("jobs in batches of 1,000, thousands/s", batches / 1e3, 50.0, 70.0, "4 connections, journal, synced"),
    ]


# --- long lists ----------------------------------------------------------------------------------------------------


#: Jobs of many queues, tasks, workers, keys and states, made by the server: two thirds wait, a third has ended. Few failed,
#: few run, and what is called rare is.
_COMMON: Final = f"""
    'job-' || lpad(n::text, 8, '0'), convert_to('{{"user_id": 42, "note": "' || repeat('x', 80) || '"}}', 'UTF8'),
    CASE WHEN n % 20000 = 7 THEN 'rare' ELSE 'queue' || n % {QUEUES} END,
    CASE WHEN n % 10000 = 3 THEN 'rare' ELSE 'task' || n % {TASKS} END, 0,
    CASE WHEN n % 10 = 0 THEN 'user:' || n % {KEYS} END, n, n, n, n, 0, 0, 0, 0, 4294967296, '', 0, 0
"""
_COLUMNS: Final = """id, payload, queue, task, prio, lane_key, run_at, created_at, queued_at, updated_at, lane, pod_epoch,
    suspect, cancel_asked, token, version, lease_until, started_at"""
_FILL: Final = f"""
INSERT INTO holdfast_done (seq, {_COLUMNS}, attempt, state, ready, worker, instance, finished_at, kind)
SELECT *, {kind("queue", "task", "worker", "state::smallint")} FROM (
    SELECT nextval('holdfast_job_seq_seq'), {_COMMON}, 1, CASE WHEN n % 1000 = 1 THEN 7 ELSE 6 END, 0,
           CASE WHEN n % 10000 = 5 THEN 'rare' ELSE 'worker' || n % 8 END, 'i', n
      FROM generate_series(1, {JOBS // 3}) AS n
       ) AS made (seq, {_COLUMNS}, attempt, state, ready, worker, instance, finished_at);
INSERT INTO holdfast_job ({_COLUMNS}, attempt, state, ready, worker, instance)
SELECT {_COMMON}, (n % 1000 = 5)::int, CASE WHEN n % 1000 = 5 THEN 3 WHEN n % 7 = 0 THEN 1 ELSE 2 END,
       (n % 7 > 0 AND n % 1000 <> 5)::int, CASE WHEN n % 1000 = 5 THEN 'worker' || n % 8 ELSE '' END,
       CASE WHEN n % 1000 = 5 THEN 'i' END
  FROM generate_series({JOBS // 3 + 1}, {JOBS}) AS n;
INSERT INTO holdfast_tally (queue, task, worker, state, shard, n, timed, took)
SELECT queue, task, worker, state, 0, count(*), count(duration), 0 FROM holdfast_done GROUP BY queue, task, worker, state;
ANALYZE;
"""


def paths() -> dict[str, list[str]]:
    """Lists by each indexed filter, with values that are there."""
    pick = random.Random(7).randrange
    states = ["queued", "scheduled", "succeeded", "failed", "running", "paused"]
    filters: dict[str, list[str]] = {
        "none": [""],
        "state": [f"state={state}" for state in states],
        "queue": [f"queue=queue{pick(QUEUES)}" for _ in range(5)],
        "task": [f"task=task{pick(TASKS)}" for _ in range(5)],
        "worker": [f"worker=worker{pick(8)}" for _ in range(5)],
        "id": [f"id=job-{pick(JOBS):08}" for _ in range(5)],
        "what is rare": ["queue=rare", "task=rare", "worker=rare", "state=failed&queue=rare", "task=rare&state=queued"],
        "what is not there": ["queue=none", "task=none", "worker=none", "key=none", "id=none"],
        "key": [f"key=user:{10 * pick(KEYS // 10)}" for _ in range(5)],
        "state and queue": [f"state={states[pick(5)]}&queue=queue{pick(QUEUES)}" for _ in range(5)],
    }
    filters |= {f"{name}, by end": [f"order=finished&{query}" for query in its] for name, its in filters.items()}
    asked: dict[str, list[str]] = {}
    for name, queries in filters.items():
        asked[name] = []
        for place in range(ASKED):
            query = queries[place % len(queries)]
            cursor = f"&cursor={pick(JOBS // 2, JOBS)}" if place % 2 and "end" not in name else ""
            order = "&newest_first=false" if place % 4 == 2 else ""
            asked[name].append(f"/api/v1/jobs?limit=50&{query}{cursor}{order}".replace("&&", "&").rstrip("&"))
    return asked


def pages() -> list[Figure]:
    """Pages of 50 over a long list on PostgreSQL."""
    from tests.support.servers.postgres import running

    figures = []
    with running() as server:
        url = server.create_database("hub")
        subprocess.run([sys.executable, "-m", "holdfast", "migrate", "--url", url], check=True, capture_output=True)
        server.sql(_FILL, "hub")
        with hub("hub", "--url", url) as (port, token):
            for name, asked in paths().items():
                client(port, token, "pages", 0, "\n".join(asked[:20]))
                taken = sorted(client(port, token, "pages", 0, "\n".join(asked))["taken"])
                p95 = 1_000 * taken[int(0.95 * len(taken))]
                detail = (
                    f"{JOBS:,} jobs; median {1_000 * statistics.median(taken):.1f} ms, worst {1_000 * taken[-1]:.1f} ms"
                )
                figures.append(Figure(f"page of 50 by {name}, p95 ms", p95, 50.0, 20.0, detail, less_is_better=True))
    return figures


if __name__ == "__main__":
    parts = {"intake": intake, "pages": pages}
    chosen = sys.argv[1:] or list(parts)
    sys.exit(show("hub", [figure for name in chosen for figure in parts[name]()]))
