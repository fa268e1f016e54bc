"""Other processes on the store of a node: producers on its folder, workers over its API."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast import Holdfast
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, DuplicateJob, NodeNotRunning
from holdfast.job.commands import QueueWant, Want
from holdfast.stores.remote import open_remote
from tests.node.processes import NodeProcess
from tests.node.remote import RemoteHarness

Start = Callable[..., NodeProcess]


async def test_an_app_on_the_folder_of_a_live_node_enqueues_through_it(start: Start) -> None:
    node = start()
    async with Holdfast(f"journal:{node.data}") as app:
        job = await app.enqueue("mail.welcome", {"user_id": 7}, id="mine")
        assert await job.result(timeout=30) == "en:7"
        with pytest.raises(DuplicateJob, match="'mine'"):
            await app.enqueue("mail.welcome", {"user_id": 7}, id="mine")


async def test_a_worker_in_another_process_runs_jobs_over_the_api(start: Start) -> None:
    node = start(app=None)
    app = Holdfast(node.info["url"], token=node.token)
    done: list[int] = []

    @app.task("far.away", queue="far")
    async def far(number: int) -> int:
        done.append(number)
        await asyncio.sleep(0)
        return number * 2

    async with app, app.worker({"far": 5}):
        jobs = await far.enqueue_many([(number,) for number in range(20)])
        assert [await job.result(timeout=30) for job in jobs] == [number * 2 for number in range(20)]
    assert sorted(done) == list(range(20))
    _, workers = node.ask("GET", "/api/v1/instances")
    assert [worker["local"] for worker in workers] == [False]


async def test_without_the_token_a_producer_over_tcp_is_told_what_is_missing(start: Start) -> None:
    node = start()
    store = open_remote(node.info["url"])
    await store.open()
    with pytest.raises(ConfigError, match="token"):
        await store.rescue()
    await store.close()


async def test_a_client_without_a_node_is_told_what_to_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("nobody")
    store = make_store(f"journal:{data}", clock=SystemClock(), role="client")
    with pytest.raises(NodeNotRunning, match="holdfast run"):
        await store.open()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"])
async def test_a_folder_whose_node_is_leaving_is_taken_over_without_an_error(tmp_path: Path, answer: bytes) -> None:
    first = Holdfast(f"journal:{tmp_path}", role="owner")
    async with first:
        pass
    leaving = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    leaving.bind(str(tmp_path / "node.sock"))
    leaving.listen()

    def leave() -> None:
        """Take a few connections, answer none of them well, and be gone."""
        with leaving, suppress(OSError):  # a shutdown ends the wait for connections
            for _ in range(5):
                taken, _address = leaving.accept()
                with taken, suppress(BrokenPipeError):
                    taken.sendall(answer)
            (tmp_path / "node.sock").unlink()

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(leave))
        try:
            async with Holdfast(f"journal:{tmp_path}") as app:
                assert await app.jobs.count() == 0
        finally:
            with suppress(OSError):
                leaving.shutdown(socket.SHUT_RDWR)


async def test_a_claim_that_is_asked_for_again_returns_the_same_claims() -> None:
    harness = RemoteHarness()
    await harness.open()
    await harness.make(4)
    want = Want(queues=(QueueWant("default", 2),), limit=2, instance="i1", request="once")
    first, again = await asyncio.gather(harness.store.claim(want), harness.store.claim(want))
    assert [claim.id for claim in first.items] == [claim.id for claim in again.items]
    other = await harness.store.claim(Want(queues=want.queues, limit=2, instance="i1", request="twice"))
    assert {claim.id for claim in other.items}.isdisjoint(claim.id for claim in first.items)
    await harness.close()
