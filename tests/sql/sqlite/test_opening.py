"""What may be wrong with a file or a URL: refused with what to do, and nothing was changed."""

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from holdfast import Holdfast
from holdfast.clock import ManualClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, StoreClosed
from holdfast.job.model import NewJob
from holdfast.stores.sql.drivers import sqlite as driver
from tests.sql.sqlite.harness import FileHarness

BAD_URLS = ("sqlite:", "sqlite://", "sqlite:///", "sqlite://queue.db", "sqlite:///:memory:")


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_without_a_path_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:///queue\.db"):
        make_store(url, clock=ManualClock())


def test_options_behind_the_path_are_refused_with_the_right_form(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="busy_timeout=5"):
        make_store(f"sqlite:///{tmp_path}/q.db?busy_timeout=5", clock=ManualClock())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no folder {tmp_path}/missing"):
        make_store(f"sqlite:///{tmp_path}/missing/q.db", clock=ManualClock())


@pytest.mark.parametrize("prefix", ["", "Big", "a b", "x;--", "1a"])
def test_a_prefix_that_is_no_name_is_refused(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        make_store(f"sqlite:///{tmp_path}/q.db", clock=ManualClock(), prefix=prefix)


async def _refused(file: Path, words: str) -> None:
    """Opening a store on this file is refused in these words, and leaves the file and its neighbours as they were."""
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    harness = FileHarness(file)
    with pytest.raises(ConfigError, match=words):
        await harness.open()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    with pytest.raises(StoreClosed):
        await harness.add()


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("These are my notes, and they are longer than the header of a database. " * 20)
    await _refused(file, "expected a SQLite database")


async def test_another_applications_tables_of_our_names_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE holdfast_job (id INTEGER PRIMARY KEY, title TEXT)")
    connection.commit()
    connection.close()
    await _refused(file, "found others: holdfast_job")


async def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    harness = FileHarness(file)
    await harness.open()
    await harness.close()
    connection = sqlite3.connect(file)
    connection.execute("UPDATE holdfast_meta SET value = '9999' WHERE name = 'schema'")
    connection.commit()
    connection.close()
    newer = FileHarness(file)
    with pytest.raises(ConfigError, match="newer release"):
        await newer.open()


async def test_without_auto_migrate_a_new_file_is_refused_until_migrate_was_run(tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    with pytest.raises(ConfigError, match="holdfast migrate"):
        await FileHarness(file, auto_migrate=False).store.open()
    maker = FileHarness(file, auto_migrate=False)
    assert await maker.store.migrate() == ["0001_tables"]
    harness = FileHarness(file, auto_migrate=False)
    await harness.store.open()
    assert await harness.store.migrate() == []
    await harness.add()
    await harness.close()


async def test_another_applications_other_tables_are_no_hindrance(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO orders VALUES (7)")
    connection.commit()
    connection.close()
    harness = FileHarness(file)
    await harness.open()
    await harness.add()
    await harness.close()
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT id FROM orders").fetchall() == [(7,)]
    connection.close()


async def test_two_prefixes_are_two_stores_in_one_file(tmp_path: Path) -> None:
    one, two = (FileHarness(tmp_path / "queue.db", prefix=prefix) for prefix in ("one_", "two_"))
    for harness in (one, two):
        await harness.open()
    job = await one.add()
    assert await two.store.jobs([job.id]) == [None]
    assert await two.claim() == ()
    assert len(await one.claim()) == 1
    for harness in (one, two):
        await harness.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_may_not_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="may be written"):
            await FileHarness(tmp_path / "queue.db").open()
    finally:
        tmp_path.chmod(0o700)


async def test_an_old_sqlite_is_refused_with_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "OLDEST", (99, 0, 0))
    with pytest.raises(ConfigError, match=rf"99\.0\.0.*{sqlite3.sqlite_version}"):
        await FileHarness(tmp_path / "queue.db").open()


async def test_an_app_opens_the_file_that_its_url_names(tmp_path: Path) -> None:
    file = tmp_path / "with space ü.db"
    app = Holdfast(f"sqlite:///{file}".replace(" ", "%20"))

    @app.task("t.double")
    async def double(number: int) -> int:
        return 2 * number

    job = await double.enqueue(21)
    async with app.worker(queues={"default": 2}):
        assert await job.result(timeout=30) == 42
    await app.close()
    assert file.exists()


async def test_what_was_acknowledged_is_there_after_opening_again(tmp_path: Path) -> None:
    first = FileHarness(tmp_path / "queue.db")
    await first.open()
    job = await first.add(key="k", unique="u", payload=b'{"a":1}')
    await first.close()
    second = FileHarness(tmp_path / "queue.db", first.clock)
    await second.open()
    assert await second.job(job.id) == job
    claim = await second.claim_one()
    await second.close()
    third = FileHarness(tmp_path / "queue.db", first.clock)
    await third.open()
    assert (await third.settle(claim)).state == "succeeded"
    assert third.faults() == []
    await third.close()


async def test_a_number_is_never_given_twice_also_when_the_newest_job_was_purged(tmp_path: Path) -> None:
    harness = FileHarness(tmp_path / "queue.db")
    await harness.open()
    jobs = await harness.add_many(3)
    claims = await harness.claim()
    for claim in claims:
        await harness.settle(claim)
    harness.advance(30 * 86_400.0)
    await harness.store.rescue()
    assert await harness.store.jobs([job.id for job in jobs]) == [None] * 3
    await harness.close()
    again = FileHarness(tmp_path / "queue.db", harness.clock)
    await again.open()
    [answer] = await again.store.enqueue([NewJob(id="next", task="t")])
    assert answer.job.seq > max(job.seq for job in jobs)
    await again.close()


async def test_a_new_file_that_others_open_at_the_same_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses the write-ahead log at once while another connection may write; its own timeout is not asked."""
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None, check_same_thread=False)
    keep_log = driver.SqliteDriver.keep_log

    async def keep_log_beside_another(self: driver.SqliteDriver) -> None:
        other.execute("BEGIN IMMEDIATE")
        await keep_log(self)

    monkeypatch.setattr(driver.SqliteDriver, "keep_log", keep_log_beside_another)
    monkeypatch.setattr("holdfast.stores.sql.drivers.sqlite.time.sleep", lambda _: other.rollback())
    harness = FileHarness(tmp_path / "queue.db")
    await harness.open()
    other.close()
    await harness.add()
    await harness.close()
