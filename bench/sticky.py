"""Sticky routing on a real Redis, beside a loop of bare EVALSHA on the same client, in the same run.

batches        links(1,000 keys), beside a bare pipeline of the same script calls
single         get_linked_pod, beside a bare EVALSHA round trip
cached         a look-up that the router knows, in µs
script p99     by Redis' own clock, over a million links, in ms
fail-over      a lost pod's 100,000 keys given to others, in s
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

from bench.report import Figure, interleaved, show
from holdfast.router import Owner, PodState, Want
from holdfast.routers.redis import RedisExecutor, open_redis
from holdfast.routers.redis.keys import link_key
from holdfast.routers.redis.scripts import script
from holdfast.sticky.router import Router
from tests.support.servers.redis import RedisServer, binary

NS: Final = "holdfast"
SERVICE: Final = "chat"
BATCH: Final = 1_000
BATCHES: Final = 20
SINGLES: Final = 3_000
LINKS: Final = 1_000_000
LOST: Final = 100_000
#: Makes links on the server itself, as `set_link` would.
FILL: Final = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', 'sf:{holdfast:lk:u' .. n .. '}chat', '1|1700000000000000|i1')
end
"""


async def batches(executor: RedisExecutor, *, bare: bool) -> float:
    """Return look-ups per second."""
    uids = [f"u{n}" for n in range(BATCH)]
    redis, wanted = executor._client._redis, script("get_link")
    started = time.perf_counter()
    for _ in range(BATCHES):
        if bare:
            pipeline = redis.pipeline(transaction=False)
            for uid in uids:
                pipeline.evalsha(wanted.sha, 1, link_key(NS, uid, SERVICE))
            await pipeline.execute()
        else:
            await executor.links(NS, uids, SERVICE)
    return BATCH * BATCHES / (time.perf_counter() - started)


async def singles(executor: RedisExecutor, *, bare: bool) -> float:
    """Return round trips per second."""
    redis, wanted = executor._client._redis, script("get_link")
    key = link_key(NS, "u1", SERVICE)
    started = time.perf_counter()
    for _ in range(SINGLES):
        if bare:
            await redis.evalsha(wanted.sha, 1, key)
        else:
            await executor.get_linked_pod(NS, "u1", SERVICE)
    return SINGLES / (time.perf_counter() - started)


async def cached(executor: RedisExecutor) -> float:
    """Return microseconds of a look-up that the router knows."""
    router = Router(executor)
    await executor.set_service_state(NS, SERVICE, PodState(pod=1, instance="i1"), 60.0)
    await router.find(SERVICE, "u1")
    count = 100_000
    started = time.perf_counter()
    for _ in range(count):
        await router.find(SERVICE, "u1")
    await router.close()
    return (time.perf_counter() - started) / count * 1e6


async def p99(executor: RedisExecutor) -> float:
    """Return the 99th percentile of script times over LINKS links, in milliseconds, as Redis measured them."""
    call = executor._client.call
    for start in range(1, LINKS, 50_000):
        await call("EVAL", FILL, 0, start, start + 49_999)
    await call("CONFIG RESETSTAT")
    uids = [f"u{n * 97 % LINKS + 1}" for n in range(10_000)]
    await executor.links(NS, uids, SERVICE)
    for start in range(0, 5_000, BATCH):
        await executor.link_pods(NS, SERVICE, {uid: Want(Owner(1, "i1")) for uid in uids[start : start + BATCH]}, 300.0)
    stats: dict[str, Any] = await call("INFO", "latencystats")
    found = stats["latency_percentiles_usec_evalsha"]
    return float(found["p99"]) / 1_000


async def fail_over(executor: RedisExecutor) -> float:
    """Return the seconds in which a lost pod's keys are given to others."""
    await executor._client.call("FLUSHALL")
    for start in range(0, LOST, BATCH):
        wanted = {f"k{n}": Want(Owner(9, "lost")) for n in range(start, start + BATCH)}
        await executor.link_pods(NS, SERVICE, wanted, 600.0)
    for pod in range(3):
        await executor.set_service_state(NS, SERVICE, PodState(pod=pod, instance=f"i{pod}"), 600.0)
    router = Router(executor)
    started = time.perf_counter()
    moved = await router.fail_over(SERVICE, 9)
    taken = time.perf_counter() - started
    if moved != LOST:
        raise RuntimeError(f"expected {LOST} keys to move, found {moved}")
    await router.close()
    return taken


def main() -> int:
    """Measure, and show the table."""
    if binary() is None:
        print("sticky: redis-server is not installed; nothing is measured.")
        return 0
    with RedisServer() as server, asyncio.Runner() as runner:
        executor = open_redis(server.url)
        run = runner.run
        run(executor.open())
        run(executor.link_pods(NS, SERVICE, {f"u{n}": Want(Owner(1, "i1")) for n in range(BATCH)}, 600.0))
        rates = interleaved(
            {
                "batch": lambda: run(batches(executor, bare=False)),
                "bare batch": lambda: run(batches(executor, bare=True)),
                "single": lambda: run(singles(executor, bare=False)),
                "bare single": lambda: run(singles(executor, bare=True)),
            }
        )
        microseconds = run(cached(executor))
        milliseconds = run(p99(executor))
        seconds = run(fail_over(executor))
        run(executor.close())
    return show(
        "Sticky routing on Redis, beside bare EVALSHA",
        [
            _ratio("batches of 1,000 look-ups", rates["batch"], rates["bare batch"], 0.6, 0.9),
            _ratio("single look-ups", rates["single"], rates["bare single"], 0.8, 0.95),
            _bound("cached look-up, µs", microseconds, 5.0, 2.5),
            _bound(f"script time p99 at {LINKS:,} links, ms", milliseconds, 1.0, 0.1),
            _bound(f"{LOST:,} keys of a lost pod moved, s", seconds, 10.0, 8.0),
        ],
    )


def _ratio(name: str, ours: float, bare: float, floor: float, goal: float) -> Figure:
    return Figure(name, ours / bare, floor, goal, f"{ours:,.0f}/s beside {bare:,.0f}/s bare")


def _bound(name: str, found: float, floor: float, goal: float) -> Figure:
    return Figure(name, found, floor, goal, "", less_is_better=True)


if __name__ == "__main__":
    sys.exit(main())
