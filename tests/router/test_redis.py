"""What only a real Redis can do to us: forget scripts and data, restart, freeze, refuse, fill up."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from holdfast.errors import ConfigError, RouterDataError, RouterError, RouterUnavailable
from holdfast.router import PERMANENT, Load, Owner, PodState, Want, WorkloadState
from holdfast.routers.redis import RedisExecutor, open_redis
from holdfast.routers.redis.client import Client
from holdfast.routers.redis.keys import index_key, link_key, shard_key, state_key, user_key, workload_key
from holdfast.routers.redis.scripts import NAMES, Script, make_script, script
from holdfast.testing.contract_router.harness import NS, SERVICE, UID, link_answer
from tests.features import feature
from tests.router.acl import MINIMAL
from tests.router.conftest import RedisHarness
from tests.support.servers import redis

PATIENCE = 60.0


@pytest.fixture
def own_server() -> Iterator[redis.RedisServer]:
    """A Redis of this test's own, to be killed."""
    redis.need()
    with redis.RedisServer(durable=True) as server:
        yield server


async def heals(executor: RedisExecutor) -> None:
    """Return as soon as it answers again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await executor.get_linked_pod(NS, UID, SERVICE)
            except RouterUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


# --- scripts


@feature("S14", "SW14")
async def test_scripts_that_the_server_forgot_are_loaded_again(rh: RedisHarness) -> None:
    await rh.set(1)
    rh.server.ask("SCRIPT", "FLUSH")
    link = await rh.get()
    assert link is not None
    assert link.pod == 1
    rh.server.ask("SCRIPT", "FLUSH")
    assert link_answer((await rh.x.link_pods(NS, SERVICE, {"x": Want(Owner(2)), "y": Want(Owner(2))}, 60.0))["y"]).ok
    rh.server.ask("SCRIPT", "FLUSH")
    assert set(await rh.x.links(NS, ["x", "y"], SERVICE)) == {"x", "y"}


@feature("S14", "SW1")
async def test_every_script_is_loaded_at_the_start_and_says_what_it_takes(rh: RedisHarness) -> None:
    for name in NAMES:
        found = await rh.x._client.call("SCRIPT EXISTS", script(name).sha)
        assert found == [True]
        own = script(name).text.rpartition("\n-- ")[0]
        assert "KEYS[1]" in own
        assert "Returns" in script(name).text


@feature("S15")
async def test_a_call_is_one_command_on_the_server_and_nothing_stands_between(rh: RedisHarness) -> None:
    await rh.set(1)
    await rh.get()  # the connection is open
    for call, commands in ((rh.get, 1), (rh.remove, 1), (lambda: rh.absent(1), 2)):
        rh.server.ask("CONFIG", "RESETSTAT")
        await call()
        calls = (await rh.x._client.call("INFO", "commandstats")).items()
        done = {name: one["calls"] for name, one in calls if name in ("cmdstat_evalsha", "cmdstat_zadd")}
        assert sum(done.values()) == commands, done


async def test_two_routers_with_different_versions_of_the_scripts_share_their_links(rh: RedisHarness) -> None:
    def other(name: str) -> Script:
        return make_script(name, script(name).text + "\n-- another version\n")

    newer = RedisExecutor(Client(rh.server.url, shown="redis", scripts=other))
    await newer.open()
    try:
        first = await rh.absent(1)
        assert not (await newer.set_linked_pod_if_absent(NS, UID, SERVICE, Owner(2), PERMANENT)).ok
        moved = await newer.try_set_linked_pod(NS, UID, SERVICE, Owner(2), PERMANENT, replaces=first.epoch)
        link = await rh.get()
        assert link is not None
        assert (link.pod, link.epoch) == (2, moved.epoch)
    finally:
        await newer.close()


@feature("S17")
async def test_where_things_are_is_what_the_documentation_says(rh: RedisHarness) -> None:
    await rh.set(3, PERMANENT, "me")
    await rh.pod(3)
    await rh.x.set_workload_state(NS, SERVICE, WorkloadState(load=Load.IDLE))
    client = rh.x._client
    assert link_key(NS, UID, SERVICE) == "sf:{game:lk:user:42}chat"
    assert user_key(NS, UID) == "sf:{game:lk:user:42}"
    assert (await client.call("GET", "sf:{game:lk:user:42}chat")).split("|")[::2] == ["3", "me"]
    assert list(await client.call("HGETALL", "sf:{game:lk:user:42}")) == [SERVICE]
    assert state_key(NS, SERVICE) == "sf:{game:state:chat}"
    assert await client.call("EXISTS", "sf:{game:state:chat}") == 1
    assert workload_key(NS, SERVICE) == "sf:{game:workload:chat}"
    assert await client.call("EXISTS", "sf:{game:workload:chat}") == 1


# --- data


async def test_i18_no_epoch_comes_twice_after_all_data_was_flushed(rh: RedisHarness) -> None:
    before = await rh.set(1)
    for _ in range(20):
        rh.server.ask("FLUSHALL")
        after = await rh.absent(1)
        assert after.ok
        assert after.epoch > before.epoch
        before = after


async def test_a_state_that_is_not_ours_is_told_with_its_place(rh: RedisHarness) -> None:
    await rh.x._client.call("HSET", state_key(NS, SERVICE), "0", "READY")
    with pytest.raises(RouterDataError, match="state:chat"):
        await rh.x.get_service_state(NS, SERVICE)
    await rh.x._client.call("SET", workload_key(NS, SERVICE), "Idle")
    with pytest.raises(RouterDataError, match="workload:chat"):
        await rh.x.get_workload_state(NS, SERVICE)
    await rh.x._client.call("HSET", user_key(NS, UID), SERVICE, "3")
    with pytest.raises(RouterDataError, match="lk:user:42"):
        await rh.x.get_link_service(NS, UID)
    await rh.x._client.call("LPUSH", link_key(NS, "other", SERVICE), "x")
    with pytest.raises(RouterDataError):
        await rh.x.get_linked_pod(NS, "other", SERVICE)


@feature("S2")
async def test_a_field_that_is_no_pod_is_skipped_and_left_alone(rh: RedisHarness) -> None:
    await rh.pod(1)
    await rh.x._client.call("HSET", state_key(NS, SERVICE), "note", "not ours")
    assert list(await rh.x.get_service_state(NS, SERVICE)) == [1]
    assert await rh.x.allocate_pod(NS, SERVICE, "new", 10.0) == 0
    assert await rh.x._client.call("HGET", state_key(NS, SERVICE), "note") == "not ours"


async def test_a_place_that_is_no_hash_or_no_set_refuses_its_user_alone_and_changes_nothing(rh: RedisHarness) -> None:
    await rh.x._client.call("SET", user_key(NS, "other"), "not ours")
    wanted = {uid: Want(Owner(1)) for uid in ("other", UID)}
    told = await rh.x.link_pods(NS, SERVICE, wanted, 60.0)
    assert link_answer(told[UID]).ok
    assert user_key(NS, "other") in str(told["other"])
    assert isinstance(told["other"], RouterDataError)
    assert await rh.x.get_linked_pod(NS, "other", SERVICE) is None
    await rh.x._client.call("SET", index_key(NS, SERVICE, 2, UID), "not ours")
    [fault] = (await rh.x.link_pods(NS, SERVICE, {UID: Want(Owner(2))}, 60.0)).values()
    assert isinstance(fault, RouterDataError)
    assert index_key(NS, SERVICE, 2, UID) in str(fault)


async def test_the_index_of_a_pod_is_swept_but_for_users_that_were_just_put_there(rh: RedisHarness) -> None:
    await rh.set(1)
    [shard] = [key for n in range(16) if await rh.x._client.call("ZCARD", key := shard_key(NS, SERVICE, 1, n))]
    now = round(time.time() * 1_000)
    await rh.x._client.call("ZADD", shard, now - 3_600_000, "left over", now, "about to link")
    assert await rh.x.users_of_pod(NS, SERVICE, 1) == [UID]
    assert sorted(await rh.x._client.call("ZRANGE", shard, 0, -1)) == ["about to link", UID]


async def test_a_pod_with_more_users_than_a_page_lists_all_of_them(rh: RedisHarness) -> None:
    wanted = {f"u{n}": Want(Owner(1)) for n in range(5_000)}
    answers = await rh.x.link_pods(NS, SERVICE, wanted, 600.0)
    assert all(link_answer(answer).ok for answer in answers.values())
    assert sorted(await rh.x.users_of_pod(NS, SERVICE, 1, limit=100_000)) == sorted(wanted)


# --- the server


async def test_t24_links_outlive_a_restart_and_the_executor_finds_the_server_again(
    own_server: redis.RedisServer,
) -> None:
    executor = open_redis(own_server.url)
    await executor.open()
    try:
        made = await executor.set_linked_pod(NS, UID, SERVICE, Owner(0), PERMANENT)
        own_server.kill()
        with pytest.raises(RouterUnavailable, match="Start Redis"):
            await executor.get_linked_pod(NS, UID, SERVICE)
        own_server.start()
        await heals(executor)
        link = await executor.get_linked_pod(NS, UID, SERVICE)
        assert link is not None
        assert (link.pod, link.epoch) == (0, made.epoch)
    finally:
        await executor.close()


async def test_t24_a_frozen_server_is_told_as_unavailable_and_found_again(own_server: redis.RedisServer) -> None:
    executor = open_redis(own_server.url, timeout=0.3)
    await executor.open()
    try:
        await executor.set_linked_pod(NS, UID, SERVICE, Owner(0), PERMANENT)
        own_server.freeze()
        with pytest.raises(RouterUnavailable):
            await executor.get_linked_pod(NS, UID, SERVICE)
        own_server.thaw()
        await heals(executor)
    finally:
        own_server.thaw()
        await executor.close()


async def test_t24_a_server_that_takes_no_writes_is_told_as_unavailable_and_found_again(rh: RedisHarness) -> None:
    await rh.set(1)
    for setting, broken, sound in (("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")):
        rh.server.ask("CONFIG", "SET", setting, broken)
        try:
            with pytest.raises(RouterUnavailable):
                await rh.set(2)
        finally:
            rh.server.ask("CONFIG", "SET", setting, sound)
        assert (await rh.set(1)).ok


async def test_a_script_that_runs_too_long_is_told_as_unavailable(rh: RedisHarness) -> None:
    rh.server.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    slow = asyncio.ensure_future(asyncio.to_thread(_ask_quietly, rh.server, "EVAL", "while true do end", "0"))
    try:
        with pytest.raises(RouterUnavailable, match="BUSY"):
            await _reads_until_it_fails(rh)
    finally:
        rh.server.ask("SCRIPT", "KILL")
        await slow
    assert await rh.get() is None


async def _reads_until_it_fails(rh: RedisHarness) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await rh.get()


def _ask_quietly(server: redis.RedisServer, *words: str) -> None:
    assert "killed" in server.ask(*words)


async def test_a_server_that_is_not_there_at_the_start_is_told_with_what_to_do() -> None:
    executor = open_redis("unix:///nowhere/redis.sock", shown="'unix:///nowhere/redis.sock'")
    with pytest.raises(RouterUnavailable, match=r"nowhere.*Start Redis, or correct the URL"):
        await executor.open()
    with pytest.raises(RouterError, match="not open"):
        await executor.get_linked_pod(NS, UID, SERVICE)


async def test_five_hundred_calls_at_once_share_the_connections(rh: RedisHarness) -> None:
    found = await asyncio.gather(*(rh.x.set_linked_pod(NS, f"u{n}", SERVICE, Owner(n), 60.0) for n in range(500)))
    assert all(answer.ok for answer in found)
    clients = await rh.x._client.call("INFO", "clients")
    assert clients["connected_clients"] <= 52


# --- who may do what


async def test_t62_the_documented_minimal_acl_is_enough_and_nothing_else_is_allowed(rh: RedisHarness) -> None:
    assert rh.server.ask("ACL", "SETUSER", "router", *MINIMAL.split()) == "+OK"
    executor = open_redis(rh.server.url.replace("unix://", "unix://router:secret@"))
    await executor.open()
    try:
        await executor.set_service_state(NS, SERVICE, PodState(pod=0, instance="i"), 60.0)
        await executor.get_service_state(NS, SERVICE)
        await executor.allocate_pod(NS, SERVICE, "j", 60.0)
        await executor.remove_service_state(NS, SERVICE, 1)
        await executor.set_workload_state(NS, SERVICE, WorkloadState(load=Load.IDLE))
        await executor.get_workload_state(NS, SERVICE)
        made = await executor.set_linked_pod(NS, UID, SERVICE, Owner(0), PERMANENT)
        await executor.try_set_linked_pod(NS, UID, SERVICE, Owner(1), 60.0, replaces=made.epoch)
        await executor.set_linked_pod_if_absent(NS, UID, SERVICE, Owner(1), PERMANENT)
        await executor.get_linked_pod(NS, UID, SERVICE)
        await executor.get_linked_pod_if_persist(NS, UID, SERVICE)
        await executor.get_link_service(NS, UID)
        await executor.batch_get_linked_pod(NS, [UID], SERVICE)
        await executor.users_of_pod(NS, SERVICE, 0)
        await executor.compute_link_if_absent(NS, SERVICE, "room", 60.0)
        await executor.remove_linked_pod_with_id(NS, UID, SERVICE, 60.0, Owner(1))
        await executor.remove_linked_pod(NS, UID, SERVICE, PERMANENT)
        await executor.eviction_policy()
        client = executor._client
        for command in (
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG GET", "*"),
            ("EVAL", "return 1", 0),
            ("GET", "other"),
            ("SCRIPT FLUSH",),
        ):
            with pytest.raises(ConfigError, match=r"docs/sticky\.md"):
                await client.call(*command)
    finally:
        await executor.close()
        rh.server.ask("ACL", "DELUSER", "router")


async def test_a_wrong_password_is_told_as_a_setting(rh: RedisHarness) -> None:
    executor = open_redis(rh.server.url.replace("unix://", "unix://nobody:wrong@"), shown="'unix://nobody:***@…'")
    with pytest.raises(ConfigError, match="nobody"):
        await executor.open()


async def test_t24_the_policy_that_may_drop_links_is_told(rh: RedisHarness) -> None:
    assert await rh.x.eviction_policy() == "noeviction"
    rh.server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert await rh.x.eviction_policy() == "allkeys-lru"
    rh.server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


@feature("S18")
async def test_over_tcp_it_is_the_same() -> None:
    redis.need()
    with redis.RedisServer(tcp=True) as server:
        executor = open_redis(server.url)
        await executor.open()
        try:
            assert (await executor.set_linked_pod(NS, UID, SERVICE, Owner(0), PERMANENT)).ok
        finally:
            await executor.close()
