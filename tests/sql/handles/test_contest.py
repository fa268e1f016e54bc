"""Five schedulers in five processes on one database, two of them killed: each tick becomes one job."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from tests.features import feature
from tests.schedule.contender import opened
from tests.schedule.test_contest import contest
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace, SqlitePlace
from tests.sql.handles.test_settle import url_of


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with our tables."""
    makers: dict[str, Callable[[], Place]] = {
        "sqlite": lambda: SqlitePlace(tmp_path, "ticks"),
        "postgresql": PostgresPlace,
        "mysql": MysqlPlace,
    }
    place: Place = makers[request.param]()

    async def migrate() -> None:
        store = make_store(url_of(place), clock=SystemClock(), auto_migrate=True)
        await store.open()
        await store.close()

    asyncio.run(migrate())
    yield url_of(place)
    place.end()


@feature("T31", "TW16", "A29")
def test_a29_five_schedulers_on_one_database_fire_each_tick_once(url: str) -> None:
    contest("url", url, lambda: opened("url", url), schedules=2, ticks=60)


@pytest.mark.soak
@feature("T31", "TW16", "A29")
def test_five_schedulers_on_one_database_fire_each_of_ten_thousand_ticks_once(url: str) -> None:
    contest("url", url, lambda: opened("url", url), schedules=4, ticks=2_500)
