"""A store of each kind as the command line reaches it: through a node, a journal, and each database."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.commands import Claim, QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import Job
from holdfast.store import Store
from tests.cli.conftest import Answer, Command
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace
from tests.support.servers.mariadb import shared

PLACES = ("node", "journal", "sqlite", "postgresql", "mysql")


class Here:
    """A store of one kind, as the command line reaches it."""

    def __init__(self, cli: Command, kind: str, *where: object, url: str) -> None:
        self.cli, self.kind, self.where, self.url = cli, kind, where, url

    def __call__(self, *words: object) -> Answer:
        """Run a command on it."""
        # A word behind -- belongs to the task, so that the place stands first.
        return self.cli(*words[:2], *self.where, *words[2:])

    def ok(self, *words: object) -> Answer:
        """Run a command that must succeed."""
        answer = self(*words)
        assert answer.code == 0, answer.err
        return answer

    def json(self, *words: object) -> Any:
        """Run a command that must succeed; return what it tells as JSON."""
        return self.ok(*words, "--json").json

    def within(self, work: Callable[[Store], Any]) -> Any:
        """Do something with the store beside the command line."""

        async def do() -> Any:
            options: dict[str, Any] = {"role": "client"} if self.kind == "node" else {}
            store = make_store(self.url, clock=SystemClock(), **options)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(do())

    def claim(self, queue: str) -> Claim[Job]:
        """Claim the next job of a queue, as a worker elsewhere."""
        found: Claim[Job] = self.within(lambda store: claim(store, queue))
        return found

    def settle(self, claimed: Claim[Job]) -> None:
        """End its attempt."""
        self.within(lambda store: settle(store, claimed))

    def run(self, queue: str) -> str:
        """Run the next job of a queue; return its id."""

        async def work(store: Store) -> str:
            claimed = await claim(store, queue)
            await settle(store, claimed)
            return claimed.id

        return str(self.within(work))


async def claim(store: Store, queue: str) -> Claim[Job]:
    want = Want(queues=(QueueWant(queue, 1),), limit=1, lease=600.0, instance="elsewhere", worker="w")
    return (await store.claim(want)).items[0]


async def settle(store: Store, claimed: Claim[Job]) -> None:
    await store.settle([Settlement(claimed, Succeeded(b'"fine"'))])


def database(kind: str, folder: Path) -> tuple[str, Place | None]:
    """Return the URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'queue.db'}", None
    place: Place = PostgresPlace() if kind == "postgresql" else MysqlPlace()
    return place.url or shared().url(place.name), place


@pytest.fixture
def here(
    request: pytest.FixtureRequest, cli: Command, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Here]:
    """A store of each kind. Names are the test's own: a node is shared."""
    kind: str = request.param
    place: Place | None = None
    if kind in ("node", "journal"):
        data = request.getfixturevalue("node").data if kind == "node" else tmp_path / "data"
        url, where = f"journal:{data}", ("--data", data)
    else:
        url, place = database(kind, tmp_path)
        where = ("--url", url)
    found = Here(cli, kind, *where, url=url)
    if kind == "journal":
        found.within(lambda store: store.migrate())  # a journal that is there, without a node
    elif kind != "node":
        assert cli("migrate", "--url", url).code == 0
    yield found
    if place is not None:
        place.end()


#: A journal without a node runs nothing between two commands.
not_journal = pytest.mark.parametrize("here", [kind for kind in PLACES if kind != "journal"], indirect=True)
#: Every refusal is tried on all of them in the long run; a store is opened for each.
TRIED = [pytest.param(kind, marks=[] if kind in ("node", "sqlite") else pytest.mark.soak) for kind in PLACES]
everywhere = pytest.mark.parametrize("here", PLACES, indirect=True)
