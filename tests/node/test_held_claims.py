"""A hub holds the claims of idle workers: answered at once when something comes, the same to whoever asks again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast import Holdfast
from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.hub.api import make_api
from holdfast.hub.door import Door
from holdfast.hub.parts import Parts
from holdfast.hub.repeats import HELD_MAX
from holdfast.job.commands import Claims, QueueWant, Want
from holdfast.node.server import serving
from holdfast.node.sockets import bind_unix
from holdfast.stores.memory import MemoryStore
from holdfast.stores.remote import open_remote
from tests.node.remote import TRUSTED, RemoteHarness, info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOUND = 12.0


class HoldingHarness(RemoteHarness):
    """A hub of its own, whose held claims can be looked at."""

    async def open(self) -> None:
        """Open the inner store, serve it, and open the remote one."""
        await self.inner.open()
        self.parts = Parts(store=self.inner, new_id=IdMaker(self.clock.now), node=info)
        await self._stack.enter_async_context(serving(Door(make_api(self.parts), TRUSTED), self._socket))
        await self.store.open()

    async def close(self) -> None:
        """Close both."""
        await self.store.close()
        await self._stack.aclose()
        await self.inner.close()
        self._folder.cleanup()


@pytest.fixture
async def h() -> AsyncIterator[HoldingHarness]:
    harness = HoldingHarness()
    await harness.open()
    yield harness
    await harness.close()


def want(request: str = "", *, wait: float = 20.0, limit: int = 10) -> Want:
    return Want(queues=(QueueWant("default", limit),), limit=limit, instance="i", request=request, wait=wait)


def ids(claims: Claims[Any]) -> list[tuple[str, int]]:
    return [(claim.id, claim.token) for claim in claims.items]


async def held(h: HoldingHarness, count: int = 1) -> None:
    """Return when the hub holds so many claims."""
    async with asyncio.timeout(BOUND):
        while h.parts.repeats.waiting != count:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)


async def test_a_held_claim_is_answered_when_a_job_comes_and_empty_when_none_does(h: HoldingHarness) -> None:
    assert (await h.store.claim(want(wait=0.05))).items == ()
    claiming = asyncio.create_task(h.store.claim(want()))
    await held(h)
    job = await h.add()
    async with asyncio.timeout(BOUND):
        claims = await claiming
    assert [claim.id for claim in claims.items] == [job.id]
    assert claims.waited > 0.0


async def test_a_held_claim_is_answered_when_a_job_is_due(h: HoldingHarness) -> None:
    job = await h.add(delay=50.0)
    claiming = asyncio.create_task(h.store.claim(want()))
    await held(h)
    h.advance(51.0)
    async with asyncio.timeout(BOUND):
        assert [claim.id for claim in (await claiming).items] == [job.id]


async def test_the_same_request_gets_the_same_claims_while_it_is_held_and_afterwards(h: HoldingHarness) -> None:
    both = [asyncio.create_task(h.store.claim(want("r", limit=1))) for _ in range(2)]
    await held(h)
    await h.add_many(3)
    async with asyncio.timeout(BOUND):
        first, second = await asyncio.gather(*both)
    assert len(first.items) == 1
    assert ids(first) == ids(second) == ids(await h.store.claim(want("r", limit=1)))
    assert len((await h.store.claim(want("other"))).items) == 2


async def test_the_same_request_without_a_wait_ends_it(h: HoldingHarness) -> None:
    claiming = asyncio.create_task(h.store.claim(want("r")))
    await held(h)
    async with asyncio.timeout(BOUND):
        ending = await h.store.claim(want("r", wait=0.0))
        assert (await claiming).items == ending.items == ()


async def test_a_caller_who_has_gone_away_is_given_nothing(h: HoldingHarness) -> None:
    # Longer than we wait to see it end: by itself it must not have ended by then.
    claiming = asyncio.create_task(h.store.claim(want("gone", wait=HELD_MAX)))
    await held(h)
    claiming.cancel()  # its connection is closed
    await held(h, 0)
    job = await h.add()
    assert [claim.id for claim in (await h.store.claim(want("here", wait=0.0))).items] == [job.id]


class Losing:
    """Stands before a hub, and loses the next answer to a claim when it is told to."""

    def __init__(self, target: str) -> None:
        self._target, self.lose = target, False
        self.lost = 0

    @asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, path)
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        try:
            while head := await reader.read(65_536):
                back.write(head)
                answer = await there.read(65_536)
                if self.lose and b"/store/claim" in head:
                    self.lose, self.lost = False, self.lost + 1
                    writer.write(answer[:20])  # it had begun
                    await writer.drain()
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()
            back.close()


async def test_an_answer_that_was_lost_is_given_again_and_nothing_is_claimed_twice(
    h: HoldingHarness, tmp_path: Path
) -> None:
    losing = Losing(str(Path(h._folder.name) / "node.sock"))
    async with losing.at(tmp_path / "s"):
        store = open_remote(f"unix:{tmp_path / 's'}", clock=h.clock)
        await store.open()
        await h.add_many(3)
        losing.lose = True
        claims = await store.claim(want(limit=2))
        assert losing.lost == 1
        assert [(claim.attempt, claim.queue) for claim in claims.items] == [(1, "default")] * 2
        assert len((await h.store.claim(want("rest", wait=0.0))).items) == 1
        await store.close()


async def test_an_idle_worker_takes_a_job_at_once_and_stops_at_once(h: HoldingHarness) -> None:
    app = Holdfast(f"unix:{Path(h._folder.name) / 'node.sock'}")
    ran = asyncio.Event()

    @app.task("quick")
    async def quick() -> None:
        ran.set()

    async with asyncio.timeout(BOUND), app, app.worker(queues={"default": 2}):
        await held(h)
        await quick.enqueue()
        await ran.wait()
        await held(h)
    await held(h, 0)


class Deaf:
    """A store as a hub knows it that news do not reach."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def wait(self, queues: Any, cursor: int, timeout: float) -> bool:
        await asyncio.Event().wait()
        return False


class Balancer:
    """Stands before two hubs: claims that do not wish to wait go to the second, everything else to the first."""

    def __init__(self, first: str, second: str) -> None:
        self._targets = first, second
        self.second = 0  # how many claims went there
        self._open: dict[asyncio.Task[Any], list[asyncio.StreamWriter]] = {}

    async def end(self) -> None:
        """Cut all connections."""
        for writers in self._open.values():
            for one in writers:
                one.transport.abort()
        if self._open:
            await asyncio.wait(self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hubs = [await asyncio.open_unix_connection(target) for target in self._targets]
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = [writer, *(back for _, back in hubs)]
        try:
            while asked := await reader.read(65_536):
                elsewhere = b"/store/claim" in asked and b'"wait":20' not in asked
                self.second += elsewhere
                there, back = hubs[elsewhere]
                back.write(asked)
                answer = await there.read(65_536)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        finally:
            for one in (writer, *(back for _, back in hubs)):
                one.close()


async def test_what_another_hub_grants_when_a_claim_is_taken_back_is_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.hub.repeats._LOOK", 60.0)
    clock = ManualClock()
    inner = MemoryStore(clock=clock)
    await inner.open()
    deaf: Any = Deaf(inner)
    folders = [tmp_path / name for name in ("1", "2")]
    parts = [Parts(store=store, new_id=IdMaker(clock.now), node=info) for store in (deaf, inner)]
    balancer = Balancer(*(str(folder / "node.sock") for folder in folders))
    app = Holdfast(f"unix:{tmp_path / 'b'}")
    ran: list[int] = []
    started, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task("long", queue="a")
    async def long() -> None:
        started.set()
        await go.wait()

    @app.task("quick", queue="b")
    async def quick() -> None:
        ran.append(1)
        done.set()

    async with AsyncExitStack() as stack:
        for folder, its in zip(folders, parts, strict=True):
            folder.mkdir()
            await stack.enter_async_context(serving(Door(make_api(its), TRUSTED), bind_unix(folder)))
        stack.push_async_callback(inner.close)
        server = await asyncio.start_unix_server(balancer.serve, tmp_path / "b")
        stack.callback(server.close)
        stack.push_async_callback(balancer.end)
        async with asyncio.timeout(BOUND), app:
            await long.enqueue()
            async with app.worker(queues={"a": 1, "b": 1}):
                await started.wait()
                while parts[0].repeats.waiting != 1:  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.005)
                job = await quick.enqueue()  # the hub that holds the claim does not hear of it
                go.set()  # room for `a` is a reason to ask again, and to take the claim back
                await done.wait()
        [ended] = await inner.jobs([job.id])
    assert balancer.second > 0
    assert (ran, ended and ended.attempt) == ([1], 1)
