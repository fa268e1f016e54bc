"""Worker processes on a database that they share, with a Redis beside it: pods die, freeze and forget; no job is lost."""

import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.features import feature
from tests.sql.mysql.harness import empty_database
from tests.sql.postgresql.conftest import need as need_postgresql
from tests.sql.postgresql.harness import shared_server as shared_postgresql
from tests.sticky.fleet import Pods, check_owners, here, migrate, results, send
from tests.support.servers import mariadb

KEYS: Final = [f"user:{n}" for n in range(12)]
#: So short that a lost pod is found lost soon; a slow machine may lose one that lives, and its keys may move as well.
LEASE: Final = 3.0


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database with our tables."""
    match request.param:
        case "sqlite":
            made = f"sqlite:///{tmp_path / 'jobs.db'}"
        case "postgresql":
            need_postgresql()
            made = shared_postgresql().create_database()
        case _:
            mariadb.need()
            made = mariadb.shared().url(empty_database())
    migrate(made)
    return made


@feature("A28", "S8")
async def test_a_killed_pods_keys_move_and_nothing_is_lost_on_a_database(url: str, tmp_path: Path) -> None:
    with Pods(tmp_path, store=url, lease=LEASE) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            told = await results(app, await send(app, range(2), KEYS))
            assert len({one["pid"] for one in told}) == len(pods.processes)
            victim = told[0]["pid"]
            waiting = await send(app, range(2, 4), KEYS, nap=0.05)
            if not url.startswith("sqlite"):
                pods.freeze(pods.number_of(victim))
                waiting += await send(app, [4], [*KEYS, "new"])
            pods.kill(pods.number_of(victim))
            if url.startswith("sqlite"):  # frozen in the midst of a write it would keep the file: nobody could send
                waiting += await send(app, [4], [*KEYS, "new"])
            late = await results(app, waiting)
            assert victim not in {one["pid"] for one in late if one["number"] == 4}
            check_owners(told + late)
            assert len(late) == len(waiting) == len({(one["key"], one["number"]) for one in late})


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_frozen_pod_and_a_redis_without_memory_share_no_epoch_on_a_database(url: str, tmp_path: Path) -> None:
    with Pods(tmp_path, store=url, lease=LEASE) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            told: list[dict[str, Any]] = await results(app, await send(app, [0], KEYS))
            frozen = pods.number_of(told[0]["pid"])
            waiting = await send(app, range(1, 3), KEYS, nap=0.02)
            pods.freeze(frozen)
            pods.redis.ask("FLUSHALL")
            pods.redis.ask("SCRIPT", "FLUSH")
            told += await results(app, waiting)
            pods.thaw(frozen)
            told += await results(app, await send(app, range(3, 5), [*KEYS, "fresh"]))
            check_owners(told)


@pytest.mark.soak
async def test_over_many_kills_and_flushes_no_job_of_a_database_is_lost(url: str, tmp_path: Path) -> None:
    rounds = int(os.environ.get("STICKY_ROUNDS", "15"))
    with Pods(tmp_path, store=url, lease=LEASE) as pods:
        async with pods.app() as app:
            await here(app, len(pods.processes))
            told: list[dict[str, Any]] = []
            for round_ in range(rounds):
                waiting = await send(app, range(round_ * 10, round_ * 10 + 3), KEYS, nap=0.01)
                number = sorted(pods.processes)[round_ % len(pods.processes)]
                if round_ % 3 == 0:
                    pods.redis.ask("FLUSHALL")
                if round_ % 3 == 1:
                    assert pods.stop(number) == 0
                else:
                    pods.kill(number)
                pods.start(number)
                told += await results(app, waiting)
            check_owners(told)
