"""Three worker processes, a node and a Redis; something of it is killed, frozen, flushed or restarted. Nothing is lost."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.features import feature
from tests.sticky.fleet import PATIENCE, Pods, check_owners, eventually, here, results, send

KEYS: Final = [f"user:{n}" for n in range(12)]


@feature("A28", "S5", "S8")
async def test_a28_a_job_runs_where_its_key_is_linked_and_moves_when_that_worker_is_killed(tmp_path: Path) -> None:
    with Pods(tmp_path) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(3), KEYS))
            check_owners(first)
            home = {one["key"]: one["pid"] for one in first}
            assert all(home[one["key"]] == one["pid"] for one in first)
            assert {one["seen"] for one in first} == {1, 2, 3}
            chat = app.stickies.services["chat"]
            owner = await chat.owner(KEYS[0])
            assert owner is not None
            assert owner.pod == next(one["pod"] for one in first if one["key"] == KEYS[0])
            victim = home[KEYS[0]]
            waiting = await send(app, range(3, 5), KEYS, nap=0.05)
            pods.freeze(pods.number_of(victim))
            waiting += await send(app, [5], KEYS)
            pods.kill(pods.number_of(victim))
            second = await results(app, waiting)
            check_owners(first + second)
            late = [one for one in second if one["number"] == 5]
            assert victim not in {one["pid"] for one in late}
            stayed = [one for one in late if home[one["key"]] != victim]
            assert all(one["pid"] == home[one["key"]] for one in stayed)


@feature("S8", "SW16")
async def test_a_worker_that_drains_hands_its_keys_over_and_ends_clean(tmp_path: Path) -> None:
    with Pods(tmp_path, workers=2) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(2), KEYS))
            assert len({one["pid"] for one in first}) == 2
            waiting = await send(app, range(2, 6), KEYS, nap=0.05)
            leaver = first[0]["pid"]
            assert await asyncio.to_thread(pods.stop, pods.number_of(leaver)) == 0
            second = await results(app, waiting)
            check_owners(first + second)
            third = await results(app, await send(app, [6], KEYS))
            assert leaver not in {one["pid"] for one in third}
            assert (
                await app.stickies.services["chat"].keys(next(one["pod"] for one in first if one["pid"] == leaver))
                == []
            )


async def test_i18_a_frozen_owner_that_wakes_up_late_shares_no_epoch_with_the_new_one(tmp_path: Path) -> None:
    with Pods(tmp_path) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(2), KEYS))
            frozen = pods.number_of(first[0]["pid"])
            waiting = await send(app, range(2, 4), KEYS, nap=0.02)
            pods.freeze(frozen)
            second = await results(app, waiting)
            pods.thaw(frozen)
            third = await results(app, await send(app, range(4, 6), KEYS))
            check_owners(first + second + third)


async def test_i18_t24_redis_is_flushed_and_restarted_and_every_job_runs_once_under_its_own_epoch(
    tmp_path: Path,
) -> None:
    with Pods(tmp_path) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            told = await results(app, await send(app, range(1), KEYS))
            for round_ in range(1, 4):
                waiting = await send(app, range(round_ * 10, round_ * 10 + 2), KEYS, nap=0.02)
                await asyncio.to_thread(pods.redis.ask, "FLUSHALL")
                waiting += await send(app, [round_ * 10 + 3], [f"fresh:{round_}:{n}" for n in range(4)])
                await asyncio.to_thread(pods.redis.ask, "SCRIPT", "FLUSH")
                waiting += await send(app, [round_ * 10 + 4], KEYS)
                await asyncio.to_thread(pods.redis.restart)
                waiting += await send(app, [round_ * 10 + 5], [*KEYS, f"late:{round_}"])
                told += await results(app, waiting)
            check_owners(told)


@feature("S7")
async def test_while_redis_is_away_bound_keys_run_on_and_new_ones_wait_until_it_is_back(tmp_path: Path) -> None:
    with Pods(tmp_path, workers=2) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(1), KEYS))
            await asyncio.to_thread(pods.redis.kill)
            second = await results(app, await send(app, range(1, 3), KEYS))
            check_owners(first + second)
            assert {one["key"]: one["pid"] for one in first} == {one["key"]: one["pid"] for one in second}
            waiting = await send(app, [9], ["new:1", "new:2"])
            store = await app.open()
            assert await store.finished(waiting, 0.5) == []
            await asyncio.to_thread(pods.redis.start)
            check_owners(await results(app, waiting))


@feature("S8")
async def test_on_lost_wait_the_jobs_wait_for_the_pod_of_the_same_number(tmp_path: Path) -> None:
    with Pods(tmp_path, workers=2, numbered=True, on_lost="wait") as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(2), KEYS))
            lost = [one["key"] for one in first if one["pod"] == 1]
            assert lost
            pods.kill(1)
            waiting = await send(app, [3], lost)
            store = await app.open()
            await asyncio.to_thread(eventually, lambda: _lost(pods), "the loss of the worker")
            assert await store.finished(waiting, 0.5) == []
            pods.start(1)
            second = await results(app, waiting)
            assert {one["pod"] for one in second} == {1}
            check_owners(first + second)


async def test_on_lost_fail_the_jobs_that_waited_fail_and_later_ones_run_elsewhere(tmp_path: Path) -> None:
    with Pods(tmp_path, workers=2, numbered=True, on_lost="fail") as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            first = await results(app, await send(app, range(2), KEYS))
            lost = sorted({one["key"] for one in first if one["pod"] == 1})
            pods.freeze(1)
            waiting = await send(app, [3], lost)
            pods.thaw(1)
            pods.kill(1)
            store = await app.open()
            ended = await store.finished(waiting, PATIENCE)
            states = Counter(job.state.value for job in ended)
            assert states["failed"] + states["succeeded"] == len(lost)
            assert all("was lost" in job.error for job in ended if job.state.value == "failed")
            # A job that comes while nobody has noticed the loss yet would wait as well, and fail.
            await asyncio.to_thread(eventually, lambda: _lost(pods), "the loss of the worker")
            later = await results(app, await send(app, [4], lost))
            assert {one["pod"] for one in later} == {0}


def _lost(pods: Pods) -> bool:
    _, found = pods.node.ask("GET", "/api/v1/instances")
    return any(one.get("state") == "lost" for one in found)


@pytest.mark.soak
async def test_i18_t24_over_many_rounds_of_kills_flushes_freezes_and_restarts_no_job_is_lost(tmp_path: Path) -> None:
    draw = random.Random(8)
    with Pods(tmp_path) as pods:
        async with pods.app() as app:
            await here(app, 3)
            told: list[dict[str, Any]] = []
            for round_ in range(50):
                waiting = await send(app, range(round_ * 10, round_ * 10 + 3), KEYS, nap=0.01)
                number = draw.choice(list(pods.processes))
                match draw.choice(("flush", "scripts", "restart", "kill", "freeze", "drain")):
                    case "flush":
                        pods.redis.ask("FLUSHALL")
                    case "scripts":
                        pods.redis.ask("SCRIPT", "FLUSH")
                    case "restart":
                        await asyncio.to_thread(pods.redis.restart)
                    case "kill":
                        pods.kill(number)
                        await asyncio.to_thread(pods.start, number)
                    case "freeze":
                        pods.freeze(number)
                        await results(app, await send(app, [round_ * 10 + 5], ["beside"]))
                        pods.thaw(number)
                    case _:
                        assert await asyncio.to_thread(pods.stop, number) == 0
                        await asyncio.to_thread(pods.start, number)
                told += await results(app, waiting)
            check_owners(told)


@pytest.mark.soak
async def test_t24_over_100_restarts_and_50_flushes_of_redis_no_job_is_lost(tmp_path: Path) -> None:
    blows = ["restart"] * 100 + ["flush"] * 50
    random.Random(24).shuffle(blows)
    with Pods(tmp_path) as pods:
        async with pods.app() as app:
            await here(app, 3)
            told: list[dict[str, Any]] = []
            for round_, blow in enumerate(blows):
                waiting = await send(app, range(round_ * 10, round_ * 10 + 3), KEYS, nap=0.01)
                if blow == "restart":
                    await asyncio.to_thread(pods.redis.restart)
                else:
                    pods.redis.ask("FLUSHALL")
                told += await results(app, waiting)
            check_owners(told)
