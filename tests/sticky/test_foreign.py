"""A value in Redis that is not ours, under a real worker: its key alone waits, visibly, until somebody deletes it."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.routers.redis.keys import link_key
from holdfast.stores.memory import MemoryStore
from tests.features import feature
from tests.sticky.test_worker import PATIENCE, Log, chat_app, say, until
from tests.support.servers import redis


@pytest.fixture
def server() -> Iterator[redis.RedisServer]:
    """A Redis of this test's own."""
    redis.need()
    with redis.RedisServer() as started:
        yield started


@feature("S7", "A28")
async def test_of_many_keys_the_one_whose_place_is_taken_waits_and_the_others_run(
    server: redis.RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = chat_app(Log(), app={"store": MemoryStore(), "router": server.url})
    server.ask("SET", link_key("holdfast", "bad", "chat"), "not ours")
    with caplog.at_level(logging.ERROR, "holdfast.sticky"):
        async with app, app.worker():
            handles = {key: await say(app, key).enqueue("x") for key in ("a", "bad", "b", "c")}
            for key in ("a", "b", "c"):
                await handles[key].result(PATIENCE)
            await until(lambda: "'bad' gets no owner" in caplog.text)
            later = [await say(app, key).enqueue("y") for key in ("a", "d")]
            for handle in later:
                await handle.result(PATIENCE)
            assert (await handles["bad"].get()).attempt == 0
            assert (await app.stickies.router()).counts.refused >= 1
            told = [record for record in caplog.records if "'bad' gets no owner" in record.message]
            assert len(told) == 1
            assert link_key("holdfast", "bad", "chat") in told[0].message
            server.ask("DEL", link_key("holdfast", "bad", "chat"))
            assert (await handles["bad"].result(PATIENCE))[0] == ["x"]


async def test_a_held_key_whose_link_is_overwritten_goes_on_when_that_is_deleted_and_the_others_do_not_notice(
    server: redis.RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = chat_app(Log(), app={"store": MemoryStore(), "router": server.url}, ttl=1.5)
    with caplog.at_level(logging.ERROR, "holdfast.sticky"):
        async with app, app.worker(lease=30.0):
            first: dict[str, Any] = {key: await (await say(app, key).enqueue("x")).result(PATIENCE) for key in "ab"}
            server.ask("SET", link_key("holdfast", "a", "chat"), "not ours")
            await until(lambda: "key 'a'" in caplog.text)
            other = await (await say(app, "b").enqueue("y")).result(PATIENCE)
            assert other[:2] == [["x", "y"], first["b"][1]]
            server.ask("DEL", link_key("holdfast", "a", "chat"))
            again = await (await say(app, "a").enqueue("y")).result(PATIENCE)
            assert again[0][-1] == "y"
            assert again[1] > first["a"][1]


async def test_a_router_that_is_not_there_keeps_the_worker_from_starting_and_says_what_to_do() -> None:
    from holdfast.errors import RouterUnavailable

    app = chat_app(Log(), app={"store": MemoryStore(), "router": "redis://127.0.0.1:1"})
    with pytest.raises(RouterUnavailable, match=r"127\.0\.0\.1:1.*Start Redis"):
        async with app, asyncio.timeout(PATIENCE), app.worker():
            pytest.fail("it must not start")
