"""holdfast export and import, as people call them, between all stores that a URL names."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.clock import ManualClock, SystemClock
from holdfast.connect import make_store
from holdfast.testing.contract.harness import StoreHarness
from tests.cli.conftest import Command, cli  # noqa: F401  # a fixture
from tests.hub.moving import JOBS, assert_moved, comparable, filled
from tests.sql.mysql.harness import empty_database, give_back
from tests.sql.postgresql.harness import shared_server, template
from tests.support.servers.mariadb import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STORES = ("journal", "sqlite", "postgresql", "mysql")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Callable[[str], list[str]]]:
    """Words of the command line for a new, empty store of a kind."""
    databases: list[str] = []
    numbers = itertools.count(1)

    def place(kind: str) -> list[str]:
        name = f"{kind}-{next(numbers)}"
        if kind == "journal":
            return ["--data", str(tmp_path / name)]
        if kind == "sqlite":
            return ["--url", f"sqlite:///{tmp_path / name}.db"]
        if kind == "postgresql":
            return ["--url", shared_server().create_database(template=template())]
        databases.append(empty_database())
        return ["--url", shared().url(databases[-1])]

    yield place
    for name in databases:
        give_back(name)


def fill(place: list[str]) -> None:
    """Fill a store, and leave it."""
    url = place[1] if place[0] == "--url" else f"journal:{place[1]}"

    async def work() -> None:
        options: dict[str, Any] = {"role": "owner"} if url.startswith("journal:") else {"auto_migrate": True}
        rig = StoreHarness(make_store(url, clock=SystemClock(), **options), ManualClock())
        await rig.store.open()
        try:
            await filled(rig)
        finally:
            await rig.store.close()

    asyncio.run(work())


@pytest.mark.parametrize("kind", STORES)
def test_everything_moves_into_each_other_store_and_twice_is_as_once(
    kind: str,
    places: Callable[[str], list[str]],
    cli: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    source, file, again = places(kind), tmp_path / "all.jsonl", tmp_path / "again.jsonl"
    fill(source)
    assert cli("export", file, *source, "--json").json == {"file": str(file), "jobs": JOBS}
    old = file.read_bytes().splitlines()
    for target in STORES:
        place = places(target)
        if target == "mysql":
            assert cli("migrate", *place).code == 0
        counts = cli("import", file, *place, "--json")
        assert (counts.code, counts.err) == (0, ""), target
        assert (counts.json["jobs"], counts.json["left"], counts.json["kept"]) == (JOBS, 0, 0), target
        assert cli("export", again, *place).code == 0
        new = again.read_bytes().splitlines()
        assert_moved(old, new)
        twice = cli("import", file, *place, "--json")
        assert (twice.json["jobs"], twice.json["left"], twice.json["records"]) == (0, JOBS, 0), target
        assert cli("export", again, *place).code == 0
        once, both = comparable(new), comparable(again.read_bytes().splitlines())
        assert len(both.pop("audit")) == len(once.pop("audit")) + 1, "that somebody imported"
        assert both == once, target
