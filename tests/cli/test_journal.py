"""`holdfast journal` and `doctor`: damage is told with file and offset, and nothing is lost by looking."""

import asyncio
import json
import sqlite3
from pathlib import Path
from zlib import crc32

import pytest

from holdfast.job.commands import Define
from holdfast.job.model import NewJob
from holdfast.stores.journal import open_journal
from holdfast.wal.frame import CRC
from tests.cli.conftest import Command
from tests.node.processes import NodeProcess, eventually


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a node that ran ten jobs and was stopped."""
    node = NodeProcess(tmp_path / "data")
    ids = [node.enqueue("mail.welcome", user_id=number) for number in range(10)]
    eventually(lambda: all(node.state(job_id) == "succeeded" for job_id in ids))
    assert node.stop() == 0
    node.kill()
    return node.data


def damage(data: Path) -> Path:
    """Alter a byte of the journal below what was acknowledged."""
    [segment] = data.glob("*.log")
    content = bytearray(segment.read_bytes())
    content[600] ^= 0xFF
    segment.write_bytes(content)
    return segment


def test_a_sound_journal_is_verified_and_dumped_as_lines_that_people_read(cli: Command, stopped: Path) -> None:
    answer = cli("journal", "verify", "--data", stopped)
    assert (answer.code, "the journal opens" in answer.out) == (0, True)
    assert cli("journal", "verify", "--data", stopped, "--json").json["ok"] is True


def test_the_dump_holds_every_step(stopped: Path) -> None:
    from tests.node.processes import holdfast

    lines = [json.loads(line) for line in holdfast("journal", "dump", "--data", stopped).stdout.splitlines()]
    facts = [fact for line in lines for fact in line["facts"]]
    assert [line["number"] for line in lines] == sorted(line["number"] for line in lines)
    assert sum(fact["fact"] == "Succeeded" for fact in facts) == 10
    assert "user_id" in json.dumps(facts)


def test_damage_is_refused_with_file_and_offset_and_repaired_only_when_told(cli: Command, stopped: Path) -> None:
    segment = damage(stopped)
    for command in (["jobs", "ls"], ["status", "--offline"]):
        answer = cli(*command, "--data", stopped)
        assert answer.code == 7, command
        assert f"error: {segment} at byte" in answer.err
        assert "holdfast journal repair" in answer.err
    assert cli("run", "--data", stopped, "--port", 0, "--metrics-port", 0).code == 7
    assert cli("journal", "verify", "--data", stopped).code == 12
    refused = cli("journal", "repair", "--data", stopped)
    assert (refused.code, "--accept-loss" in refused.err) == (7, True)
    assert "lost: numbers" in cli("journal", "repair", "--accept-loss", "--data", stopped).out
    assert cli("journal", "verify", "--data", stopped).code == 0
    assert cli("jobs", "ls", "--data", stopped).code == 0


def test_a_damaged_file_that_a_snapshot_covers_is_told_by_exit_code_although_the_journal_opens(
    cli: Command, tmp_path: Path
) -> None:
    asyncio.run(with_a_snapshot(tmp_path / "data"))
    old, _new = sorted((tmp_path / "data").glob("*.log"))
    content = bytearray(old.read_bytes())
    content[600] ^= 0xFF
    old.write_bytes(content)
    answer = cli("journal", "verify", "--data", tmp_path / "data")
    assert (answer.code, "the journal opens" in answer.out) == (12, True)
    assert f"damaged: {old.name}" in answer.out
    found = cli("journal", "verify", "--data", tmp_path / "data", "--json")
    assert (found.code, found.json["ok"], found.json["damage"]) == (12, False, None)
    assert cli("jobs", "ls", "--data", tmp_path / "data", "--json").json["items"]


def test_what_a_crash_leaves_is_no_damage(cli: Command, stopped: Path) -> None:
    [last] = stopped.glob("*.log")
    (stopped / "MARK").unlink()
    report = cli("journal", "verify", "--data", stopped)
    assert (report.code, "the journal opens" in report.out) == (0, True)
    assert last.exists()


async def with_a_snapshot(data: Path) -> None:
    """A journal of two segments, the first of which a snapshot covers."""
    store = open_journal(data, snapshot_interval=0)
    await store.open()
    await store.define([Define(alias="a")])
    await store.enqueue([NewJob(id=f"job-{number}", task="a", payload=b"{}") for number in range(100)])
    assert store._keeper is not None
    await asyncio.to_thread(store._keeper.take)
    await store.close()


def test_a_backup_of_a_live_node_is_restored_elsewhere(cli: Command, tmp_path: Path, stopped: Path) -> None:
    assert cli("journal", "backup", tmp_path / "copy", "--data", stopped).code == 0
    assert cli("journal", "restore", tmp_path / "copy", "--data", tmp_path / "new").code == 0
    found = cli("status", "--offline", "--json", "--data", tmp_path / "new").json
    assert found["completed"] == 10
    again = cli("journal", "backup", tmp_path / "copy", "--data", stopped)
    assert (again.code, "expected an empty or missing folder" in again.err) == (3, True)


def test_a_journal_of_a_newer_format_is_refused(cli: Command, stopped: Path) -> None:
    head = bytearray((stopped / "FORMAT").read_bytes()[:-4])
    head[8] += 1  # the format's number stands behind the eight letters
    (stopped / "FORMAT").write_bytes(bytes(head) + CRC.pack(crc32(head)))
    for command in (["status", "--offline"], ["run", "--port", "0", "--metrics-port", "0"]):
        answer = cli(*command, "--data", stopped)
        assert answer.code == 7, command
        assert "newer Holdfast" in answer.err


def test_a_folder_that_holds_no_journal_is_told(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        assert cli("journal", "verify", "--data", tmp_path / name).code == 3


def test_doctor_finds_what_is_wrong(cli: Command, stopped: Path) -> None:
    checks = {one["name"]: one for one in cli("doctor", "--data", stopped, "--json").json}
    assert {name for name, one in checks.items() if one["state"] == "fail"} == set()
    assert checks["node"]["state"] == "warn"
    damage(stopped)
    answer = cli("doctor", "--data", stopped)
    assert answer.code == 12
    assert "at byte" in answer.out


def test_doctor_names_the_rows_of_a_database_that_somebody_else_has_written(cli: Command, tmp_path: Path) -> None:
    at = ("--url", f"sqlite:///{tmp_path / 'q.db'}")
    assert cli("tasks", "create", "mail.welcome", *at).code == 0
    found = {one["name"]: one for one in cli("doctor", *at, "--json").json}
    assert found["store"]["state"] == "ok"
    with sqlite3.connect(tmp_path / "q.db") as connection:
        connection.execute("UPDATE holdfast_definition SET body = x'ff'")
    connection.close()
    found = {one["name"]: one for one in cli("doctor", *at, "--json").json}
    assert (found["store"]["state"], "task mail.welcome" in found["store"]["found"]) == ("warn", True)
    assert "DamagedRow" in cli("tasks", "show", "mail.welcome", *at).out
