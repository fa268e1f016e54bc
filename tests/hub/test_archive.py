"""holdfast export and import move everything between any two stores, and refuse a file that is not whole."""

import io
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from holdfast.cli.commands.export import _lines
from holdfast.cli.importing import checked
from holdfast.connect import make_history
from holdfast.errors import ConfigError, ContentError, DuplicateJob
from holdfast.history import GroupBy, StatisticsFilter
from holdfast.job.commands import (
    ChangeDefinition,
    ChangeQueue,
    Define,
    DefinitionFilter,
    JobFilter,
    KeyLink,
    LinkFilter,
    Page,
)
from holdfast.job.model import Job, ScheduleStatus, TaskStatus, WorkerConfig
from holdfast.testing.contract.feed import feed, told
from holdfast.testing.contract.harness import StoreHarness
from holdfast.wire.archive import End, Line, Writer, read
from tests.cli.conftest import Command, cli  # noqa: F401  # a fixture
from tests.contract.adapters import ADAPTERS
from tests.hub.importing import into
from tests.hub.moving import JOBS, assert_moved, comparable, filled

NAMES = ["memory", "journal", "sqlite", "postgresql", "mysql"]
#: Each store is exported and imported once; test_moves.py has all pairs that a URL names.
RING = list(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))


async def exported(rig: StoreHarness) -> list[bytes]:
    """What `holdfast export` writes."""
    writer = Writer()
    lines = [writer.head(rig.store.now())]
    lines += [writer.line(line) async for line in _lines(rig.store)]
    return [*lines, writer.end()]


async def jobs_of(rig: StoreHarness) -> list[Job]:
    page = await rig.store.find(JobFilter(deleted=True), Page(limit=500, newest_first=False))
    return list(page.items)


@pytest.fixture(params=RING, ids=["-".join(pair) for pair in RING])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[tuple[StoreHarness, StoreHarness]]:
    """Two stores."""
    old, new = (ADAPTERS[name]() for name in request.param)
    await old.open()
    await new.open()
    yield old, new
    assert old.faults() + new.faults() == []
    await old.close()
    await new.close()


async def test_everything_moves_from_one_store_to_another(two: tuple[StoreHarness, StoreHarness]) -> None:
    old, new = two
    await filled(old)
    lines = await exported(old)
    counts = await into(new.store, lines)
    assert (counts.jobs, counts.left, counts.kept, counts.links) == (JOBS, 0, 0, 2)
    moved = await exported(new)
    assert_moved(lines, moved)
    again = await into(new.store, lines)
    assert (again.jobs, again.left, again.records) == (0, JOBS, 0)
    assert comparable(await exported(new)) == comparable(moved)


async def test_what_was_moved_keeps_its_place_its_keys_and_its_owners_epoch(
    two: tuple[StoreHarness, StoreHarness],
) -> None:
    old, new = two
    await filled(old)
    await into(new.store, await exported(old))
    for job in ({"unique": "u"}, {"unique": "held"}, {"id": "canceled", "own_id": True}):
        with pytest.raises(DuplicateJob):
            await new.store.enqueue([new.new(**{"id": "fresh", **job})])
    order = []
    while claims := await new.claim(10):
        order += [claim.id for claim in claims]
        for claim in claims:
            await new.settle(claim)
    assert order == ["ready", "line-3", "line-1", "line-2"]
    assert {(await new.job(name)).state for name in ("held", "asleep", "later", "sticky")} == {
        "paused",
        "queued",
        "scheduled",
    }
    assert not await new.claim(10, queues=("held",))
    await new.beat("i2", pod=2)
    stale, newer = await new.store.bind([KeyLink("chat", "k", 2, "i2", 69), KeyLink("chat", "free", 2, "i2", 10)])
    assert (stale.accepted, newer.accepted) == (False, True)
    [link] = await new.store.links(LinkFilter(service="chat", key="k"))
    assert (link.pod, link.epoch) == (None, 70)
    assert not await new.claim(10, sticky=("chat",))
    await new.store.bind([KeyLink("chat", "k", 2, "i2", 71)])
    assert [claim.id for claim in await new.claim(10, instance="i2", sticky=("chat",))] == ["sticky"]


async def test_statistics_go_on_from_what_the_other_store_counted(two: tuple[StoreHarness, StoreHarness]) -> None:
    old, new = two
    await filled(old)
    await into(new.store, await exported(old))
    before, after = [make_history(rig.store)[0] for rig in (old, new)]
    assert before is not None
    assert after is not None
    for by in GroupBy:
        assert await after.statistics(StatisticsFilter(), by) == await before.statistics(StatisticsFilter(), by)
    await new.settle((await new.claim(1))[0])
    [now] = await after.statistics(StatisticsFilter())
    [then] = await before.statistics(StatisticsFilter())
    assert (now.total, now.succeeded) == (then.total + 1, then.succeeded + 1)


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
    assert (
        sum(sum(states.values()) for states in (await new.store.stats()).queues.values()) == JOBS - 2
    )  # deleted, elsewhere


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


class Interrupted(Exception):
    """The process dies."""


async def test_an_import_that_was_interrupted_anywhere_goes_on_and_ends_as_if_it_had_not_been() -> None:
    old = ADAPTERS["memory"]()
    await old.open()
    await filled(old)
    lines = await exported(old)
    for stop in range(1, len(lines) - 1):
        new = ADAPTERS["memory"]()
        await new.open()

        def done(_lines: int, left: list[int] = [stop]) -> None:  # noqa: B006  # it counts
            left[0] -= 1
            if not left[0]:
                raise Interrupted

        with pytest.raises(Interrupted):
            await into(new.store, lines, done)
        await into(new.store, lines)
        assert_moved(lines, await exported(new))


async def test_an_import_leaves_what_people_have_changed_here_since_the_first_one() -> None:
    old, new = ADAPTERS["memory"](), ADAPTERS["memory"]()
    await old.open()
    await new.open()
    await filled(old)
    lines = await exported(old)
    await into(new.store, lines)
    new.advance(60.0)
    await new.store.change_queue(ChangeQueue(name="held", paused=False))
    await new.store.change_definition(ChangeDefinition(alias="off", status=TaskStatus.ACTIVE))
    [schedule, _] = await new.store.schedules()
    await new.store.save_schedule(replace(schedule, count=5, status=ScheduleStatus.ACTIVE))
    [worker] = await new.store.workers()
    await new.store.configure_worker(replace(worker, enabled=True))
    before = comparable(await exported(new))
    counts = await into(new.store, lines)
    assert comparable(await exported(new)) == before
    assert (counts.kept, counts.queues, counts.schedules) == (12, 0, 0)


async def test_what_was_imported_is_told_to_an_exporter_too() -> None:
    old, new = ADAPTERS["memory"](), ADAPTERS["memory"]()
    await old.open()
    await new.open()
    await feed(new).start_export()
    await filled(old)
    await into(new.store, await exported(old))
    found = await told(new)
    assert {job.id for job in await jobs_of(new) if job.final or job.last is not None} == found.keys()


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


FIGURE = {
    "span": 60, "number": 7, "queue": "q", "task": "t", "outcome": 1, "worker": "w", "n": 1, "waited": 0, "ran": 0,
    "waits": "gQAB", "runs": "gQAB",
}  # fmt: skip
NO_FIGURES: list[dict[str, Any]] = [
    {"span": 61}, {"number": -1}, {"number": 2**40}, {"queue": "../x"}, {"task": ""}, {"outcome": 77}, {"n": -1},
    {"waits": "////"}, {"runs": "AAAA"}, {"worker": "w" * 600}, {"took": 2**60}, {"waits": "gQD/"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", NO_FIGURES, ids=lambda one: next(iter(one)))
def test_a_figure_that_can_not_be_is_refused_before_anything_is_stored(wrong: dict[str, Any]) -> None:
    end = b'{"end":{"lines":2,"jobs":0,"epoch":0}}\n'
    good = b"".join([HEAD, json.dumps({"figure": FIGURE}).encode() + b"\n", end])
    assert checked(io.BytesIO(good)).lines == 2
    bad = b"".join([HEAD, json.dumps({"figure": FIGURE | wrong}).encode() + b"\n", end])
    with pytest.raises((ContentError, ConfigError)):
        checked(io.BytesIO(bad))


def test_an_entry_of_the_audit_log_that_can_not_be_is_refused() -> None:
    end = b'{"end":{"lines":2,"jobs":0,"epoch":0}}\n'
    for wrong in ({"at": -1.0}, {"count": -1}, {"detail": "d" * 2_000}):
        entry = {"who": "ann", "action": "a", **wrong}
        bad = b"".join([HEAD, json.dumps({"audit": entry}).encode() + b"\n", end])
        with pytest.raises(ContentError, match="audit"):
            checked(io.BytesIO(bad))


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
    assert [entry["action"] for entry in told[:2]] == ["import", "change_queue"]
    nowhere = cli("export", tmp_path / "none" / "all.jsonl", "--url", old)
    assert (nowhere.code, "No such file or directory" in nowhere.err) == (3, True)
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
