"""A store, a user's connection to the same database, and one to another database."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from holdfast.testing.contract.harness import StoreHarness
from tests.sql.handles.clients import CLIENTS, Client
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace, SqlitePlace


@pytest.fixture(params=CLIENTS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Client]:
    """What kind of connection the user holds."""
    found: type[Client] = request.param
    return found


@pytest.fixture
def place_of(tmp_path: Path) -> Iterator[Callable[[str, str], Place]]:
    """How to get a database of a kind, by name."""
    made: dict[tuple[str, str], Place] = {}

    def get(database: str, name: str) -> Place:
        if (database, name) not in made:
            makers: dict[str, Callable[[], Place]] = {
                "sqlite": lambda: SqlitePlace(tmp_path, name),
                "postgresql": lambda: PostgresPlace(bare=name == "bare"),
                "mysql": MysqlPlace,
            }
            made[database, name] = makers[database]()
        return made[database, name]

    yield get
    for place in made.values():
        place.end()


@pytest.fixture
def place(place_of: Callable[[str, str], Place], kind: type[Client]) -> Place:
    """The database of the store and of the user."""
    return place_of(kind.database, "shared")


@pytest.fixture
async def h(place: Place) -> AsyncIterator[StoreHarness]:
    """An open store."""
    harness = place.store()
    await harness.open()
    await place.make_orders()
    yield harness
    await harness.close()


@pytest.fixture
async def client(h: StoreHarness, kind: type[Client], place: Place) -> AsyncIterator[Client]:
    """The user's connection, with a transaction."""
    made = kind(place)
    await made.open()
    yield made
    await made.end()
