"""A hub is killed in the middle of work and started again: workers and producers that speak HTTP go on, nothing is lost."""

import asyncio
import json
import os
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

JOBS = 60


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
            jobs = await slow.enqueue_many([(number,) for number in range(JOBS)])
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
