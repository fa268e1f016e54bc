"""A hub is killed in the middle of work and started again: workers and producers that speak HTTP go on, nothing is lost."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from holdfast import Holdfast
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import OutcomeUnknown, StoreUnavailable
from tests.features import feature
from tests.hub.test_command import HubProcess
from tests.node.processes import LIMIT, free_port, holdfast
from tests.sql.postgresql.harness import empty_database

JOBS = 60
#: Of the long run: how often the hub is killed, and how many jobs one enqueue brings.
KILLS, BATCH = 8, 100


@feature("H17")
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
async def test_work_over_http_survives_a_hub_that_is_killed_and_started_again(tmp_path: Path, kind: str) -> None:
    data, port = tmp_path / "data", free_port()
    store = ["--url", f"sqlite:///{tmp_path / 'q.db'}"] if kind == "sqlite" else []
    hubs = [HubProcess(data, "--port", port, *store)]
    scopes = ("work", "enqueue", "read", "read:payload")
    made = holdfast("tokens", "make", "fleet", *scopes, "--data", data, "--json")
    secret = json.loads(made.stdout)["token"]
    url = f"http://127.0.0.1:{port}"
    app, asking = Holdfast(url, token=secret), make_store(url, clock=SystemClock(), token=secret)
    ran: Counter[int] = Counter()
    halfway, opened = asyncio.Event(), asyncio.Event()

    @app.task("shop.slow")
    async def slow(number: int) -> int:
        ran[number] += 1
        if len(ran) >= JOBS // 2:
            halfway.set()
        if number % 2:
            await opened.wait()  # these run while the hub is away
        return number

    try:
        async with asyncio.timeout(LIMIT), app:
            await asking.open()
            jobs = list(await slow.enqueue_many([(number,) for number in range(JOBS)]))
            async with app.worker(queues={"default": JOBS}):
                await halfway.wait()
                os.kill(hubs[0].process.pid, signal.SIGKILL)
                hubs[0].process.wait(LIMIT)
                with pytest.raises((StoreUnavailable, OutcomeUnknown)):
                    await asking.stats()
                opened.set()
                hubs.append(await asyncio.to_thread(HubProcess, data, "--port", port, *store))
                jobs += await slow.enqueue_many([(JOBS + number,) for number in range(0, JOBS, 2)])
                ended = await asking.finished([job.id for job in jobs], LIMIT)
            assert {job.state.value for job in ended} == {"succeeded"}
            assert sorted(json.loads(job.result or b"null") for job in ended) == sorted(ran)
            assert len(ended) == len(jobs) == len(ran)
            # Nothing was run twice: a claim whose answer was lost is asked for again by the same request.
            assert set(ran.values()) == {1} or all(job.attempt == ran[json.loads(job.payload)[0]] for job in ended)
            await asking.close()
    finally:
        for hub in hubs:
            if hub.process.poll() is None:
                hub.end()
            elif hub.process.stdout is not None:
                hub.process.stdout.close()


@feature("H17")
@pytest.mark.soak
@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgresql"])
async def test_what_was_acknowledged_over_http_is_run_though_the_hub_is_killed_again_and_again(
    tmp_path: Path, kind: str
) -> None:
    urls = {"sqlite": lambda: f"sqlite:///{tmp_path / 'q.db'}", "postgresql": empty_database}
    data, port = tmp_path / "data", free_port()
    store = ["--url", urls[kind]()] if kind in urls else []
    hub = HubProcess(data, "--port", port, *store)
    made = holdfast("tokens", "make", "fleet", "work", "enqueue", "read", "--data", data, "--json")
    app = Holdfast(f"http://127.0.0.1:{port}", token=json.loads(made.stdout)["token"])
    ran: Counter[int] = Counter()
    acked: dict[str, int] = {}
    over = asyncio.Event()

    @app.task("shop.quick", max_attempts=100)
    async def quick(number: int) -> None:
        ran[number] += 1
        await asyncio.sleep(random.random() * 0.02)

    async def produce(number: int) -> None:
        while not over.is_set():
            try:
                jobs = await quick.enqueue_many([(number + place,) for place in range(BATCH)])
                acked.update({job.id: number + place for place, job in enumerate(jobs)})
            except (StoreUnavailable, OutcomeUnknown):  # not acknowledged: it may be there or not
                await asyncio.sleep(0.05)
            number += BATCH
            await asyncio.sleep(0.2)

    try:
        async with asyncio.timeout(300), app, app.worker(queues={"default": 50}):
            producing = [asyncio.create_task(produce(place * 1_000_000)) for place in range(2)]
            for _ in range(KILLS):
                await asyncio.sleep(0.3 + random.random())
                os.kill(hub.process.pid, signal.SIGKILL)
                await asyncio.to_thread(hub.process.wait, LIMIT)
                assert hub.process.stdout is not None
                hub.process.stdout.close()
                hub = await asyncio.to_thread(HubProcess, data, "--port", port, *store)
            over.set()
            await asyncio.gather(*producing)
            while set(acked.values()) - ran.keys():  # noqa: ASYNC110 - until all that was acknowledged has run
                await asyncio.sleep(0.1)
    finally:
        hub.end()
    assert len(acked) > KILLS * BATCH
