"""How a key leaves: no new job gets it, its state closes, its link is given up; then it may be built anew."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import Context, Holdfast
from holdfast.job.commands import LinkFilter
from holdfast.router import RoutingState
from holdfast.stores.memory import MemoryStore
from tests.features import feature
from tests.sticky.test_worker import PATIENCE, say, until


class Slow:
    """An app whose states close when they are let: what happened is in `told`, and how many states there were at once."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        self.told: list[str] = []
        self.open = self.most = 0
        self.may_close = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.app = Holdfast()
        if store is not None:
            self.app.lend(store)
        self.chat = self.app.sticky("chat", **options)

        @self.chat.state
        async def lines(key: str) -> AsyncIterator[list[str]]:
            self.told.append(f"build {key}")
            self.open += 1
            self.most = max(self.most, self.open)
            yield []
            self.told.append(f"close {key}")
            await self.may_close.wait()
            self.open -= 1
            self.told.append(f"closed {key}")

        @self.app.task("say", sticky=self.chat)
        async def say(text: str, *, ctx: Context) -> list[Any]:
            await self.may_end.wait()
            ctx.local.append(text)
            return [list(ctx.local), ctx.epoch, ctx.job.pod]

    async def say(self, key: str, text: str = "x") -> Any:
        """Send a message."""
        return await say(self.app, key).enqueue(text)

    async def heard(self, key: str, text: str = "x") -> Any:
        """Send one, and wait for its answer."""
        return await (await self.say(key, text)).result(PATIENCE)


async def test_an_idle_key_is_not_built_anew_before_its_old_state_has_closed() -> None:
    slow = Slow(ttl=1.0)
    async with slow.app, slow.app.worker(lease=0.6):
        first = await slow.heard("u", "old")
        await until(lambda: "close u" in slow.told)
        job = await slow.say("u", "new")
        await until_running(job)
        link = await slow.chat.owner("u")
        assert link is not None, "the link was given up before the state was closed"
        assert slow.told == ["build u", "close u"]
        slow.may_close.set()
        second = await job.result(PATIENCE)
    assert slow.most == 1
    assert second[0] == ["new"]
    assert second[1] > first[1]
    assert slow.told == ["build u", "close u", "closed u", "build u", "close u", "closed u"]


async def test_while_a_state_closes_slowly_its_link_outlives_its_ttl() -> None:
    slow = Slow(ttl=1.0)
    async with slow.app, slow.app.worker(lease=3.0):
        await slow.heard("u")
        await until(lambda: "close u" in slow.told)
        epoch = (await slow.chat.owner("u") or pytest.fail("it has a link")).epoch
        await asyncio.sleep(1.3)  # past the ttl: whoever closes it has renewed the link
        link = await slow.chat.owner("u")
        assert link is not None
        assert link.epoch == epoch
        slow.may_close.set()


async def test_a_key_that_others_took_is_built_anew_after_its_old_state_has_closed() -> None:
    slow = Slow()
    async with slow.app, slow.app.worker():
        await slow.heard("u", "old")
        assert await slow.chat.release("u")
        job = await slow.say("u", "new")
        await until(lambda: "close u" in slow.told)
        slow.may_close.set()
        assert (await job.result(PATIENCE))[0] == ["new"]
    assert slow.most == 1


@feature("A28")
@pytest.mark.parametrize("limit", [1, 3])
async def test_there_are_never_more_states_than_max_keys_however_slowly_they_close(limit: int) -> None:
    slow = Slow(max_keys=limit)
    keys = [f"u{n}" for n in range(4 * limit)]
    async with slow.app, slow.app.worker(queues={"default": 20}):
        jobs = [await slow.say(key) for key in keys]
        await until(lambda: len([one for one in slow.told if one.startswith("close ")]) == limit)
        assert slow.open == limit
        slow.may_close.set()
        for job in jobs:
            await job.result(PATIENCE)
    assert slow.most == limit
    assert slow.open == 0
    assert sorted(one for one in slow.told if one.startswith("build")) == sorted(f"build {key}" for key in keys)


async def test_keys_in_use_make_others_wait_and_none_is_closed_under_its_job() -> None:
    slow = Slow(max_keys=2)
    slow.may_close.set()
    slow.may_end.clear()
    async with slow.app, slow.app.worker(queues={"default": 10}):
        jobs = [await slow.say(f"u{n}") for n in range(5)]
        for job in jobs:
            await until_running(job)
        assert [one[:6] for one in slow.told] == ["build "] * 2
        slow.may_end.set()
        for job in jobs:
            await job.result(PATIENCE)
    assert slow.most == 2


@feature("SW16")
async def test_a_pod_that_drains_gives_a_link_up_when_the_state_is_closed_and_not_before() -> None:
    store = MemoryStore()
    await store.open()
    slow = Slow(store)
    async with slow.app:
        stop, ends = await begun(slow)
        await slow.heard("u")
        router = await slow.app.stickies.router()
        stop.set()
        await until(lambda: "close u" in slow.told)
        link = await slow.chat.owner("u")
        assert link is not None, "the link was given up before the state was closed"
        [pod] = (await router.executor.get_service_state("holdfast", "chat")).values()
        assert pod.routing is RoutingState.DENY_NEW_CALL
        assert [one.pod for one in await store.links(LinkFilter())] == [link.pod]
        slow.may_close.set()
        await ends
        assert await slow.chat.owner("u") is None
        assert [one.pod for one in await store.links(LinkFilter())] == [None]
        assert await router.executor.get_service_state("holdfast", "chat") == {}
    await store.close()


async def test_a_key_whose_job_runs_while_its_pod_drains_is_given_up_when_that_ends() -> None:
    store = MemoryStore()
    await store.open()
    slow = Slow(store)
    slow.may_close.set()
    async with slow.app:
        stop, ends = await begun(slow)
        await slow.heard("idle")
        slow.may_end.clear()
        job = await slow.say("busy")
        await until(lambda: "build busy" in slow.told)
        stop.set()
        await until_given_up(store, "idle")
        assert "closed idle" in slow.told
        assert "close busy" not in slow.told
        slow.may_end.set()
        await job.result(PATIENCE)
        await until_given_up(store, "busy")
        assert "closed busy" in slow.told
        await ends
        assert await slow.chat.owner("busy") is None
    await store.close()


async def test_a_state_that_does_not_close_is_cancelled_after_the_grace_and_its_key_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Slow(ttl=1.0)
    with caplog.at_level(logging.ERROR, "holdfast.sticky"):
        async with slow.app, slow.app.worker(lease=3.0, grace=0.2):
            await slow.heard("u", "old")
            await until(lambda: "close u" in slow.told)
            assert (await slow.heard("u", "new"))[0] == ["new"]
            slow.may_close.set()
    assert any("key 'u': its state has not closed after 1 s" in record.message for record in caplog.records)


# --- what was let go stays let go


async def test_a_key_that_was_let_go_by_hand_is_not_linked_again_by_the_pod_that_still_has_its_state() -> None:
    store = MemoryStore()
    await store.open()
    slow = Slow(store, ttl=3.0)
    slow.may_close.set()
    async with slow.app, slow.app.worker(lease=1.0):
        await slow.heard("u")
        await slow.heard("stays")
        assert await slow.chat.release("u")
        await until(lambda: "closed u" in slow.told)
        assert await slow.chat.owner("u") is None
        [link] = await store.links(LinkFilter(service="chat", key="u"))
        assert link.pod is None
        assert "closed stays" not in slow.told
    await store.close()


async def test_a_router_that_lost_its_links_gets_those_of_held_keys_again_and_their_states_stay() -> None:
    store = MemoryStore()
    await store.open()
    slow = Slow(store, ttl=3.0)
    slow.may_close.set()
    async with slow.app, slow.app.worker(lease=1.0):
        first = await slow.heard("u", "a")
        router = await slow.app.stickies.router()
        await router.executor.remove_linked_pod("holdfast", "u", "chat", -1)
        async with asyncio.timeout(PATIENCE):
            while (link := await slow.chat.owner("u")) is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
        assert link.epoch > first[1]
        second = await slow.heard("u", "b")
        assert second[0] == ["a", "b"]
        assert second[1] >= link.epoch
        assert await slow.chat.release("u")
        await router.executor.remove_linked_pod("holdfast", "u", "chat", -1)
        assert not await slow.chat.release("u")
    await store.close()


async def test_a_key_is_let_go_also_when_the_router_has_lost_its_link() -> None:
    store = MemoryStore()
    await store.open()
    slow = Slow(store)
    slow.may_close.set()
    async with slow.app, slow.app.worker():
        await slow.heard("u")
        router = await slow.app.stickies.router()
        await router.executor.remove_linked_pod("holdfast", "u", "chat", -1)
        assert await slow.chat.release("u")
        [link] = await store.links(LinkFilter(service="chat", key="u"))
        assert link.pod is None
    await store.close()


# --- what is counted


async def test_a_worker_counts_the_keys_that_it_knew_and_those_that_it_asked_for() -> None:
    slow = Slow()
    slow.may_close.set()
    async with slow.app, slow.app.worker():
        counts = (await slow.app.stickies.router()).counts
        await slow.heard("u")
        assert (counts.hits, counts.misses, counts.made) == (0, 2, 1)  # bound to a pod; confirmed by the pod
        for _ in range(3):
            await slow.heard("u")
        assert (counts.hits, counts.misses, counts.made) == (3, 2, 1)
        assert await slow.chat.release("u")
        await slow.heard("u")
        assert (counts.hits, counts.misses, counts.made) == (3, 4, 2)


async def begun(slow: Slow) -> tuple[asyncio.Event, asyncio.Task[None]]:
    """Start a worker; return what stops it, and when it has ended."""
    ready, stop = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with slow.app.worker():
            ready.set()
            await stop.wait()

    ends = asyncio.create_task(work())
    await ready.wait()
    return stop, ends


async def until_running(job: Any) -> None:
    """Return when a job has been claimed."""
    async with asyncio.timeout(PATIENCE):
        while (await job.get()).attempt == 0:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def until_given_up(store: MemoryStore, key: str) -> None:
    """Return when nobody has a key."""
    async with asyncio.timeout(PATIENCE):
        while [one.pod for one in await store.links(LinkFilter(key=key, service="chat"))] != [None]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
