"""One process, everything in memory: states of keys, their bounds and ends, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import pytest

from holdfast import Context, Holdfast, injected
from holdfast.errors import ConfigError, ContentError, JobFailed, NoPod
from holdfast.job.commands import KeyLink, LinkFilter
from holdfast.router import Owner
from holdfast.stores.memory import MemoryStore
from tests.features import feature

PATIENCE: Final = 60.0


class Log:
    """What was built and closed, in order."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.closed: list[str] = []


@pytest.fixture
def log() -> Log:
    return Log()


def chat_app(log: Log, **options: Any) -> Holdfast:
    """An app with one service whose states are lists."""
    app = Holdfast(**options.pop("app", {}))
    chat = app.sticky("chat", **options)

    @chat.state
    async def lines(key: str) -> AsyncIterator[list[str]]:
        log.built.append(key)
        await asyncio.sleep(0)
        yield []
        log.closed.append(key)

    @app.task("say", sticky=chat)
    async def say(text: str, *, ctx: Context) -> list[Any]:
        ctx.local.append(text)
        return [list(ctx.local), ctx.epoch, ctx.job.pod]

    return app


def say(app: Holdfast, key: str) -> Any:
    """The task, for a key."""
    task = app.tasks.get("say")
    assert task is not None
    return task.using(key=key)


async def until(look: Callable[[], bool]) -> None:
    """Return as soon as `look` is true."""
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - what is looked at tells nobody when it changes
            await asyncio.sleep(0.005)


@feature("S5")
async def test_the_first_run_links_the_key_and_all_runs_share_the_state(log: Log) -> None:
    app = chat_app(log)
    async with app, app.worker():
        assert await app.stickies.services["chat"].owner("u") is None
        handles = [await say(app, "u").enqueue(str(n)) for n in range(5)]
        told = [await handle.result(PATIENCE) for handle in handles]
        assert told[-1][0] == ["0", "1", "2", "3", "4"]
        link = await app.stickies.services["chat"].owner("u")
        assert link is not None
        assert {(epoch, pod) for _, epoch, pod in told} == {(link.epoch, link.pod)}
    assert (log.built, log.closed) == (["u"], ["u"])


async def test_a_state_is_built_once_also_when_many_jobs_of_many_keys_race(log: Log) -> None:
    app = chat_app(log)
    keys = [f"u{n}" for n in range(20)]
    async with app, app.worker(queues={"default": 50}):
        handles = [await say(app, key).enqueue("x") for _ in range(10) for key in keys]
        for handle in handles:
            await handle.result(PATIENCE)
    assert sorted(log.built) == sorted(keys)
    assert sorted(log.closed) == sorted(keys)


async def test_without_a_state_function_there_is_none_and_the_job_runs_all_the_same() -> None:
    app = Holdfast()
    plain = app.sticky("plain")

    @app.task("look", sticky=plain)
    async def look(*, ctx: Context = injected) -> bool:
        return ctx.local is None and ctx.epoch > 0

    async with app, app.worker():
        assert await (await look.using(key="k").enqueue()).result(PATIENCE) is True


async def test_a_plain_task_beside_a_service_has_a_dict_of_its_own_and_epoch_zero() -> None:
    app = Holdfast()
    app.sticky("plain")

    @app.task("look")
    async def look(*, ctx: Context = injected) -> list[Any]:
        return [ctx.local, ctx.epoch]

    async with app, app.worker():
        assert await (await look.using(key="k").enqueue()).result(PATIENCE) == [{}, 0]


async def test_a_thread_handler_gets_the_state_too() -> None:
    app = Holdfast()
    box = app.sticky("box")

    class Box:
        def __init__(self, key: str) -> None:
            self.key, self.open = key, True

        def close(self) -> None:
            self.open = False

    made: list[Box] = []

    @box.state
    def build(key: str) -> Box:
        made.append(Box(key))
        return made[-1]

    @app.task("look", sticky=box)
    def look(*, ctx: Context = injected) -> str:
        assert ctx.local.open
        return str(ctx.local.key)

    async with app, app.worker():
        assert await (await look.using(key="k").enqueue()).result(PATIENCE) == "k"
    assert [one.open for one in made] == [False]


async def test_a_state_that_can_not_be_built_fails_the_attempt_and_the_next_one_builds_it() -> None:
    app = Holdfast()
    flaky = app.sticky("flaky")
    tries: list[str] = []

    @flaky.state
    async def build(key: str) -> str:
        tries.append(key)
        if len(tries) == 1:
            raise OSError("no database yet")
        return "built"

    @app.task("look", sticky=flaky, backoff=["0.01s"])
    async def look(*, ctx: Context = injected) -> str:
        return str(ctx.local)

    async with app, app.worker():
        handle = await look.using(key="k").enqueue()
        assert await handle.result(PATIENCE) == "built"
        assert (await handle.get()).failures == 1


async def test_an_error_while_a_state_closes_keeps_nothing_open(log: Log) -> None:
    app = Holdfast()
    rude = app.sticky("rude")

    @rude.state
    async def build(key: str) -> AsyncIterator[str]:
        yield key
        raise OSError("can not close")

    @app.task("look", sticky=rude)
    async def look(*, ctx: Context = injected) -> str:
        return str(ctx.local)

    async with app, app.worker():
        assert await (await look.using(key="k").enqueue()).result(PATIENCE) == "k"


async def test_no_more_states_are_kept_than_max_keys(log: Log) -> None:
    app = chat_app(log, max_keys=3)
    async with app, app.worker(queues={"default": "serial"}):
        for n in range(10):
            await (await say(app, f"u{n}").enqueue("x")).result(PATIENCE)
        await until(lambda: len(log.closed) == 7)
        assert log.closed == [f"u{n}" for n in range(7)]
        assert sorted(await app.stickies.services["chat"].keys(0)) == ["u7", "u8", "u9"]


@feature("S8")
async def test_a_key_without_jobs_is_let_go_after_its_ttl_and_its_state_closed(log: Log) -> None:
    app = chat_app(log, ttl=1.0)
    async with app, app.worker(lease=0.6):
        first = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        await until(lambda: log.closed == ["u"])
        chat = app.stickies.services["chat"]
        store = await app.open()
        async with asyncio.timeout(PATIENCE):  # the link goes after its state
            while (await store.links(LinkFilter(service="chat")))[0].pod is not None:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0)
        assert await chat.owner("u") is None
        again = await (await say(app, "u").enqueue("y")).result(PATIENCE)
        assert again[0] == ["y"]
        assert again[1] > first[1]


async def test_a_key_that_others_took_is_closed_and_its_job_goes_to_them(log: Log) -> None:
    app = chat_app(log)
    async with app, app.worker():
        first = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        store = await app.open()
        [link] = await store.links(LinkFilter(service="chat"))
        # As another worker would: it binds the key to itself, and gives it up again.
        await store.bind([KeyLink("chat", "u", link.pod, link.instance, link.epoch + 5)])
        again = await (await say(app, "u").enqueue("y")).result(PATIENCE)
        assert again[0] == ["y"]
        assert again[1] >= link.epoch + 5 > first[1]
        assert log.built == ["u", "u"]


async def test_a_key_is_released_and_moved_by_hand(log: Log) -> None:
    app = chat_app(log)
    async with app, app.worker():
        chat = app.stickies.services["chat"]
        first = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        assert await chat.release("u")
        assert not await chat.release("u")
        second = await (await say(app, "u").enqueue("y")).result(PATIENCE)
        assert second[0] == ["y"]
        assert second[1] > first[1]
        moved = await chat.move("u", 0)
        third = await (await say(app, "u").enqueue("z")).result(PATIENCE)
        assert third[1] >= moved.epoch
        with pytest.raises(NoPod):
            await chat.move("u", 5)
        with pytest.raises(ContentError, match="pod"):
            await chat.move("u", -1)


async def test_a_router_that_forgot_everything_keeps_the_owner_that_the_store_knows(log: Log) -> None:
    app = chat_app(log, ttl=1.0)
    async with app, app.worker(lease=30.0):
        first = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        router = await app.stickies.router()
        await router.executor.remove_linked_pod("holdfast", "u", "chat", -1)
        await asyncio.sleep(0.6)  # past the half of the ttl, for which a link counts as confirmed
        second = await (await say(app, "u").enqueue("y")).result(PATIENCE)
        assert second[0] == ["x", "y"]
        assert second[1] > first[1]


async def test_a_newer_owner_in_the_router_gets_the_job_back(log: Log) -> None:
    app = chat_app(log, ttl=1.0)
    async with app, app.worker(lease=30.0):
        first = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        router = await app.stickies.router()
        await router.executor.set_linked_pod("holdfast", "u", "chat", Owner(7, "elsewhere"), 0.2)
        await asyncio.sleep(0.6)
        second = await (await say(app, "u").enqueue("y")).result(PATIENCE)
        assert second[1] > first[1]


async def test_two_workers_on_one_store_share_the_keys_and_hand_them_over(log: Log) -> None:
    store = MemoryStore()
    await store.open()
    one, other = chat_app(log), chat_app(log)
    one.lend(store)
    other.lend(store)
    other.stickies._kept = (await one.stickies.router()).executor
    keys = [f"u{n}" for n in range(10)]
    async with one, other:
        async with one.worker(), other.worker():
            router = await one.stickies.router()
            async with asyncio.timeout(PATIENCE):
                while len(await router.executor.get_service_state("holdfast", "chat")) < 2:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.005)
            told = [await (await say(one, key).enqueue("x")).result(PATIENCE) for key in keys]
            assert {pod for _, _, pod in told} == {0, 1}
            again = [await (await say(other, key).enqueue("y")).result(PATIENCE) for key in keys]
            assert [(pod, epoch) for _, epoch, pod in told] == [(pod, epoch) for _, epoch, pod in again]
        assert sorted(log.closed) == sorted(keys)
        assert all(link.pod is None for link in await store.links(LinkFilter()))
    await store.close()


# --- what is refused


async def test_a_sticky_task_without_a_key_is_refused_at_the_enqueue(log: Log) -> None:
    app = chat_app(log)
    task = app.tasks.get("say")
    assert task is not None
    with pytest.raises(ContentError, match=r"service 'chat'.*using\(key=…\)"):
        await task.enqueue("x")
    for bad in ("a}b", "   "):
        with pytest.raises(ContentError, match="key"):
            await say(app, bad).enqueue("x")


def test_wrong_options_of_a_service_are_named() -> None:
    app = Holdfast()
    app.sticky("one")
    for options, what in (
        ({"on_lost": "panic"}, "on_lost"),
        ({"ttl": "0.5s"}, "ttl"),
        ({"max_keys": 0}, "max_keys"),
        ({"max_keys": True}, "max_keys"),
    ):
        with pytest.raises(ConfigError, match=what):
            app.sticky("other", **options)
    with pytest.raises(ConfigError, match="second"):
        app.sticky("one")
    for name in ("", "a}b", "  "):
        with pytest.raises((ConfigError, ContentError)):
            app.sticky(name)


def test_what_can_not_be_a_sticky_task_or_a_state_is_refused() -> None:
    app = Holdfast()
    chat = app.sticky("chat")
    with pytest.raises(ConfigError, match="process"):
        app.task("a", sticky=chat, executor="process")(print)
    with pytest.raises(ConfigError, match="sticky"):
        app.task("b", sticky=7)(print)  # type: ignore[call-overload]
    chat.state(lambda key: key)
    with pytest.raises(ConfigError, match="second"):
        chat.state(lambda key: key)

    def pieces(key: str) -> Any:
        yield key

    with pytest.raises(ConfigError, match="one yield"):
        app.sticky("other").state(pieces)


@pytest.mark.parametrize("url", ["", "mongodb://x", "redis", "memory:there"])
async def test_a_router_url_that_is_none_is_told_with_the_forms(url: str) -> None:
    app = Holdfast(router=url)
    app.sticky("chat")
    with pytest.raises(ConfigError, match="memory:"):
        async with app, app.worker():
            pytest.fail("it must not start")
    await app.close()


async def test_a_store_without_sticky_jobs_says_so_when_the_worker_starts(log: Log) -> None:
    class Plain(MemoryStore):
        """A store that can not bind."""

    Plain.capabilities = msgspec.structs.replace(MemoryStore.capabilities, sticky=False)
    app = chat_app(log, app={"store": Plain()})
    async with app:
        with pytest.raises(ConfigError, match="'chat'"):
            async with app.worker():
                pytest.fail("it must not start")


async def test_a_job_of_a_service_that_this_app_does_not_have_waits() -> None:
    store = MemoryStore()
    await store.open()
    app = Holdfast()
    app.lend(store)

    @app.task("look")
    async def look() -> None: ...

    other = Holdfast()
    other.lend(store)
    far = other.sticky("far")

    @other.task("far", sticky=far)
    async def far_task() -> None: ...

    async with app, other, app.worker():
        handle = await far_task.using(key="k").enqueue()
        await (await look.enqueue()).result(PATIENCE)
        assert (await handle.get()).attempt == 0
        with pytest.raises(JobFailed):
            await handle.result(0.01)
    await store.close()
