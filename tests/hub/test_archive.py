"""holdfast export and import move everything between any two stores, and refuse a file that is not whole."""

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast.cli.commands.export import _lines
from holdfast.errors import ContentError
from holdfast.job.commands import (
    ChangeDefinition,
    ChangeQueue,
    Define,
    DefinitionFilter,
    ErrorInfo,
    Failed,
    JobFilter,
    Page,
    Snoozed,
)
from holdfast.job.model import Job, QueueMode, QueueShare, Schedule, TaskStatus, WorkerConfig
from holdfast.testing.contract.harness import StoreHarness
from holdfast.wire.archive import End, Line, Writer, read
from tests.cli.conftest import Command, cli  # noqa: F401  # a fixture
from tests.contract.adapters import ADAPTERS
from tests.hub.importing import into

NAMES = ["memory", "journal", "sqlite", "postgresql", "mysql"]
#: Each store is exported and imported once; all pairs are a matter of minutes.
RING = list(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))


async def filled(rig: StoreHarness) -> None:
    """A store that has seen something of everything."""
    store = rig.store
    await store.define([Define(alias="t", title="T", queue="post"), Define(alias="off", id="d2"), Define(alias="gone")])
    await store.change_definition(ChangeDefinition(alias="off", status=TaskStatus.CANCELED))
    await store.change_definition(ChangeDefinition(alias="gone", deleted=True))
    await store.change_queue(ChangeQueue(name="post", create=True, mode=QueueMode.SERIAL, keep_failed=None))
    await store.change_queue(ChangeQueue(name="held", create=True, paused=True, why="deploy", who="ann", limit=3))
    await store.save_schedule(Schedule(name="s", rule="every 1h", task="t", payload=b'{"a":1}'))
    await store.configure_worker(WorkerConfig(name="w", queues=(QueueShare(name="post"),), enabled=False))
    await rig.make(3, max_attempts=2)
    first, second, third = await rig.claim(3)
    await rig.settle(first)
    await rig.settle(second, Failed(ErrorInfo("E", "broke \x00 off", "tb")))
    await rig.settle(third, Snoozed(60.0, update=b'{"n":1}'))
    again = await rig.claim_one()
    await rig.settle(again, Failed(ErrorInfo("E", "again", "tb")))
    await rig.add(id="later", delay=1_000.0, key="user:1", tags=("a", "b"), unique="u", unique_window=1e6)
    await rig.add(id="ready", payload='{"ü":"😀"}'.encode(), headers=b'{"x":1}', priority=7)
    await rig.add(id="runs")


async def exported(rig: StoreHarness) -> list[bytes]:
    """What `holdfast export` writes."""
    writer = Writer()
    lines = [writer.head(rig.store.now())]
    lines += [writer.line(line) async for line in _lines(rig.store)]
    return [*lines, writer.end()]


async def jobs_of(rig: StoreHarness) -> list[Job]:
    page = await rig.store.find(JobFilter(deleted=True), Page(limit=500, newest_first=False))
    return list(page.items)


def without_place(lines: list[bytes]) -> list[Any]:
    """The lines as values, without what is a store's own: numbers, times of the steering records, tokens' epochs."""
    values = [json.loads(line) for line in lines[1:-1]]
    for value in values:
        [(kind, body)] = value.items()
        body.pop("seq", None)
        for name in ("created_at", "updated_at", "revision", "id", "paused_at") if kind != "job" else ():
            body.pop(name, None)
        if kind == "definition" and body["deleted_at"] is not None:
            body["deleted_at"] = 0.0
    return values


@pytest.fixture(params=RING, ids=["-".join(pair) for pair in RING])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[tuple[StoreHarness, StoreHarness]]:
    """Two stores."""
    old, new = (ADAPTERS[name]() for name in request.param)
    await old.open()
    await new.open()
    yield old, new
    await old.close()
    await new.close()


async def test_everything_moves_from_one_store_to_another(two: tuple[StoreHarness, StoreHarness]) -> None:
    old, new = two
    await filled(old)
    lines = await exported(old)
    counts = await into(new.store, lines)
    assert (counts.jobs, counts.left) == (6, 0)
    assert without_place(await exported(new)) == without_place(lines)
    again = await into(new.store, lines)
    assert (again.jobs, again.left) == (0, 6)
    assert without_place(await exported(new)) == without_place(lines)


async def test_what_was_moved_goes_on_under_tokens_of_its_own(two: tuple[StoreHarness, StoreHarness]) -> None:
    old, new = two
    await filled(old)
    held = {claim.id: claim.token for claim in await old.claim(10)}
    highest = max(held.values())
    await into(new.store, await exported(old))
    assert len([job for job in await jobs_of(new) if job.state == "running"]) == 0
    claims = {claim.id: claim.token for claim in await new.claim(10)}
    assert claims.keys() == held.keys()
    assert all(token >> 32 > highest >> 32 for token in claims.values())
    assert sum((await new.store.stats()).queues[new.queue].values()) == 6


async def test_definitions_of_both_stores_are_known_afterwards() -> None:
    old, new = ADAPTERS["memory"](), ADAPTERS["memory"]()
    await old.open()
    await new.open()
    await filled(old)
    await new.store.define([Define(alias="mine"), Define(alias="t", title="ours")])
    await into(new.store, await exported(old))
    known = {one.alias: one for one in await new.store.definitions(DefinitionFilter(deleted=True))}
    assert set(known) == {"mine", "t", "off", "gone"}
    assert (known["t"].title, known["off"].status, known["gone"].runs) == ("ours", "canceled", False)


# --- files that are not what they should be -------------------------------------------------------------------------

HEAD = b'{"holdfast":"export","version":1}\n'
END = b'{"end":{"lines":1,"jobs":0,"epoch":0}}\n'
BROKEN: dict[str, list[bytes]] = {
    "nothing": [],
    "no head": [END],
    "another version": [b'{"holdfast":"export","version":2}\n', END],
    "cut": [HEAD],
    "cut within a line": [HEAD, b'{"queue":{"na'],
    "a line is missing": [HEAD, b'{"end":{"lines":2,"jobs":0,"epoch":0}}\n'],
    "more behind the end": [HEAD, END, b"{}\n"],
    "an unknown kind": [HEAD, b'{"evil":1}\n', END],
    "no json": [HEAD, b"\xff\xfe\n", END],
    "too deep": [HEAD, b"[" * 200_000, END],
    "a pickle": [b"\x80\x04\x95.", END],
}


@pytest.mark.parametrize("lines", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_whole_is_refused_by_its_line(lines: list[bytes]) -> None:
    with pytest.raises(ContentError, match="line"):
        list(read(lines))


def test_every_cut_of_a_file_is_noticed() -> None:
    writer = Writer()
    whole = b"".join([writer.head(0.0), writer.line(Line(worker=WorkerConfig(name="w"))), writer.end()])
    assert [line.end for line in read(whole.splitlines(keepends=True))][-1] == End(lines=2, jobs=0, epoch=0)
    for length in range(len(whole) - 1):
        with pytest.raises(ContentError):
            list(read(whole[:length].splitlines(keepends=True)))


def test_the_commands_write_and_read_a_file(cli: Command, tmp_path: Path) -> None:  # noqa: F811
    old, new = f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'new.db'}"
    for url in (old, new):
        assert cli("migrate", "--url", url).code == 0
    assert cli("queues", "pause", "post", "--create", "--url", old).code == 0
    file = tmp_path / "all.jsonl"
    assert cli("export", file, "--url", old, "--json").json == {"file": str(file), "jobs": 0}
    assert file.stat().st_mode & 0o777 == 0o600
    answer = cli("import", file, "--url", new, "--json")
    assert (answer.code, answer.json["queues"]) == (0, 1)
    assert cli("queues", "ls", "--url", new, "--json").json[0]["queue"]["paused"] is True
    told = cli("audit", "--url", new, "--json").json["items"]
    assert told[0]["action"] == "change_queue"
    file.write_bytes(file.read_bytes()[:-20])
    refused = cli("import", file, "--url", new)
    assert (refused.code, "line" in refused.err) == (4, True)
    assert cli("import", tmp_path / "none", "--url", new).code == 3


#: Names of files and of things that try to be more than names.
PLACES = [
    "../../x",
    "/etc/x",
    "a\x00b",
    "a\nb",
    "~root",
    "%2e%2e",
    "\u202egpj",
    "\x1b[2J",
    "$(id)",
    "'; DROP TABLE job; --",
]


@pytest.mark.parametrize("kind", ["queue", "worker", "schedule", "definition", "job"])
def test_t58_names_in_a_file_are_names_and_nothing_else(kind: str) -> None:
    for place, sign in itertools.product(PLACES, ("name",)):
        body = {"queue": {"name": place}, "worker": {"name": place}}.get(kind, {sign: place})
        lines = [HEAD, json.dumps({kind: body}).encode(), b'{"end":{"lines":2,"jobs":0,"epoch":0}}\n']
        try:
            found = list(read(lines))
        except ContentError:
            continue
        assert cast("Any", found[0]).__getattribute__(kind).name == place  # data, as it was written
