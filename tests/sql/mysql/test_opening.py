"""Opening a store: what is refused, and what the message says to do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pymysql
import pytest
from pymysql.constants import CLIENT

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, MissingExtra, StoreUnavailable
from holdfast.job.model import NewJob
from holdfast.stores.sql.dialects.mysql import MysqlDialect
from holdfast.stores.sql.drivers.asyncmy import refuse_old
from holdfast.stores.sql.migrate import migrations_of
from holdfast.stores.sql.mysql import MysqlStore
from holdfast.stores.sql.schema import TABLES
from tests.features import feature
from tests.sql.mysql.harness import ask, at_port
from tests.support.proxy import Proxy
from tests.support.servers.mariadb import MariaDB

STEPS = [migration.name for migration in migrations_of(MysqlDialect("holdfast_"))]


def make(url: str, **options: object) -> MysqlStore:
    store = make_store(url, clock=SystemClock(), **options)
    assert isinstance(store, MysqlStore)
    return store


async def refusal(store: MysqlStore) -> str:
    """Open a store that refuses; return what it says."""
    with pytest.raises(ConfigError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


# --- the server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://localhost:notaport/db", "mysql://user:password@host:port/database"),
        ("mysql://localhost:99999/db", "mysql://user:password@host:port/database"),
        ("mysql://localhost", "no database"),
        ("mysql://localhost/", "no database"),
        ("mysql://localhost/a/b", "the path '/a/b'"),
        ("mysql://h/db?pool_size=many", "pool_size: expected a number"),
        ("mysql://h/db?prefix=No-Good", "prefix"),
        ("mysql://h/db?charset=latin1", "unknown option 'charset'"),
        ("mysq://h/db", "expected one of"),
    ],
)
def test_a_wrong_url_is_told_before_anything_is_connected_to(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match="xpected") as caught:
        make(url)
    assert said in str(caught.value)


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown option retries.*pool_size"):
        make("mysql://h/db", retries=3)


@pytest.mark.parametrize("url", ["mariadb://u@h/db", "mysql+asyncmy://u@h/db", "mysql://u:p%40ss@h/db?ssl=true"])
def test_other_ways_to_write_the_scheme_are_understood(url: str) -> None:
    make(url)


def test_a_missing_driver_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['asyncmy'] = None\n"
        "from holdfast.connect import make_store; from holdfast.clock import SystemClock\n"
        "make_store('mysql://h/db', clock=SystemClock())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingExtra.__name__ in done.stderr
    assert "pip install 'holdfast[mysql]'" in done.stderr


async def test_a_server_that_is_not_there_is_told_at_once_and_without_the_password() -> None:
    store = make("mysql://me:secret@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/db does not answer") as caught:
        await store.open()
    assert "secret" not in str(caught.value)
    await store.close()


async def test_a_server_that_resets_each_connection_is_unavailable(server: MariaDB, empty: str) -> None:
    async with Proxy(server.upstream) as proxy:
        proxy.refuse()
        store = make(at_port(empty, proxy.port))
        with pytest.raises(StoreUnavailable):
            await store.open()
        await store.close()


async def test_a_server_that_says_nothing_is_unavailable_after_the_time_to_connect(server: MariaDB, empty: str) -> None:
    async with Proxy(server.upstream) as proxy:
        proxy.silence()
        store = make(f"{at_port(empty, proxy.port)}?connect_timeout=0.2")
        with pytest.raises(StoreUnavailable):
            await store.open()
        await store.close()


async def test_a_database_that_does_not_exist_is_a_setting_to_correct(server: MariaDB) -> None:
    assert "Unknown database" in await refusal(make(server.url("nowhere")))


async def test_a_wrong_password_is_a_setting_to_correct_and_is_not_shown(server: MariaDB) -> None:
    said = await refusal(make(server.url("mysql", user="root", password="guessed")))
    assert "Check user, password" in said
    assert "guessed" not in said


@pytest.mark.parametrize(
    ("said", "mariadb", "wanted"),
    [
        ("5.7.44-log", False, "MySQL 8.0.1 or newer"),
        ("8.0.0-dmr", False, "MySQL 8.0.1 or newer"),
        ("10.5.23-MariaDB", True, "MariaDB 10.6 or newer"),
        ("5.5.5-10.3.39-MariaDB", True, "MariaDB 10.6 or newer"),
    ],
)
def test_an_old_server_is_refused(said: str, mariadb: bool, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {wanted}, found {said}"):
        refuse_old(said, "MySQL at db", mariadb=mariadb)


@pytest.mark.parametrize(
    ("said", "mariadb"),
    [
        ("8.0.36", False),
        ("8.4.3", False),
        ("9.1.0", False),
        ("10.6.0-MariaDB", True),
        ("5.5.5-10.11.6-MariaDB-log", True),
        ("11.4.2-MariaDB", True),
    ],
)
def test_a_newer_server_is_taken(said: str, mariadb: bool) -> None:
    refuse_old(said, "MySQL at db", mariadb=mariadb)


# --- the schema ----------------------------------------------------------------------------------------------------


@feature("T2")
async def test_a_database_without_tables_is_refused_with_what_to_run(empty: str) -> None:
    said = await refusal(make(empty))
    assert "found none of them" in said
    assert "holdfast migrate" in said


@feature("T2")
async def test_a_store_that_may_migrate_makes_its_tables_once(empty: str) -> None:
    for expected in (STEPS, []):
        assert await make(empty).migrate() == expected
    store = make(empty, auto_migrate=True)
    await store.open()
    assert await store.migrate() == []
    await store.close()


@feature("T2")
async def test_eight_who_migrate_at_once_take_each_step_once(empty: str) -> None:
    taken = await asyncio.gather(*(make(empty).migrate() for _ in range(8)))
    assert sorted(taken) == [*[[]] * 7, STEPS]


@feature("T2")
async def test_a_migration_that_was_cut_off_is_taken_again(server: MariaDB, empty: str) -> None:
    await make(empty).migrate()
    gone = ("stat", "slot", "counter", "done")
    drops = [f"DROP TABLE holdfast_{table}" for table in gone]
    ask(server, name_of(empty), *drops, "UPDATE holdfast_meta SET value = '0' WHERE name = 'schema'")
    assert "holdfast migrate" in await refusal(make(empty))
    assert await make(empty).migrate() == STEPS
    store = make(empty)
    await store.open()
    await store.close()


async def test_a_schema_of_a_newer_release_is_refused_and_left_alone(server: MariaDB, empty: str) -> None:
    await make(empty).migrate()
    ask(server, name_of(empty), f"UPDATE holdfast_meta SET value = '{len(STEPS) + 1}' WHERE name = 'schema'")
    assert "newer release" in await refusal(make(empty))
    assert "newer release" in await refusal(make(empty, auto_migrate=True))
    with pytest.raises(ConfigError, match="newer release"):
        await make(empty).migrate()


@pytest.mark.parametrize("table", ["holdfast_meta", "holdfast_job"])
async def test_tables_of_another_application_are_refused_and_left_alone(
    server: MariaDB, empty: str, table: str
) -> None:
    name = name_of(empty)
    ask(server, name, f"CREATE TABLE {table} (whatever TEXT)", f"INSERT INTO {table} VALUES ('precious')")
    for store in (make(empty), make(empty, auto_migrate=True)):
        assert f"found others: {table}" in await refusal(store)
    with pytest.raises(ConfigError, match="another prefix="):
        await make(empty).migrate()
    assert ask(server, name, f"SELECT whatever FROM {table}") == [("precious",)]
    store = make(empty, prefix="jobs_", auto_migrate=True)
    await store.open()
    await store.close()


async def test_a_table_that_lost_a_column_is_noticed_when_the_store_is_opened(server: MariaDB, empty: str) -> None:
    await make(empty).migrate()
    ask(server, name_of(empty), "ALTER TABLE holdfast_stat RENAME COLUMN n TO m")
    assert "holdfast_stat" in await refusal(make(empty))


async def test_the_tables_have_the_columns_that_the_code_names(server: MariaDB, empty: str) -> None:
    await make(empty).migrate()
    for table, known in TABLES.items():
        rows = ask(server, name_of(empty), f"SHOW COLUMNS FROM holdfast_{table}")
        made = [row[0] for row in rows if "GENERATED" not in str(row[5])]
        own = ["pos"] if table == "feed" else []  # the order of commits that an export reads by: of this database alone
        assert sorted(made) == sorted([*known.all, *own])
        keys = [row[0] for row in rows if row[3] == "PRI"]
        assert sorted(keys) == sorted(own or known.columns[: known.key])


async def test_two_stores_share_a_database_under_other_names(empty: str) -> None:
    stores = [make(empty, auto_migrate=True, **names) for names in ({}, {"prefix": "b_"})]
    for store in stores:
        await store.open()
        await store.enqueue([NewJob(id="same", task="t", own_id=True)])
    for store in stores:
        await store.close()


# --- rights --------------------------------------------------------------------------------------------------------


async def test_an_account_that_may_not_make_tables_is_told_which_right_is_missing(server: MariaDB, empty: str) -> None:
    ask(server, None, "CREATE USER 'maker'@'%'", f"GRANT SELECT ON {name_of(empty)}.* TO 'maker'@'%'")
    with pytest.raises(ConfigError, match=r"refused a right.*Grant it"):
        await make(server.url(name_of(empty), user="maker")).migrate()
    ask(server, None, "DROP USER 'maker'@'%'")


async def test_an_account_that_may_not_write_the_tables_is_told_so(server: MariaDB, url: str) -> None:
    ask(server, None, "CREATE USER 'reader'@'%'", f"GRANT SELECT ON {name_of(url)}.* TO 'reader'@'%'")
    store = make(server.url(name_of(url), user="reader"))
    await store.open()
    with pytest.raises(ConfigError, match="refused a right"):
        await store.enqueue([NewJob(id="x", task="t")])
    await store.close()
    ask(server, None, "DROP USER 'reader'@'%'")


async def test_an_account_without_rights_on_the_database_is_told_so(server: MariaDB, url: str) -> None:
    ask(server, None, "CREATE USER 'stranger'@'%'")
    assert "refused a right" in await refusal(make(server.url(name_of(url), user="stranger")))
    ask(server, None, "DROP USER 'stranger'@'%'")


# --- holdfast migrate ----------------------------------------------------------------------------------------------


async def holdfast(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an empty folder, without settings from outside."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "holdfast", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
        timeout=60,
    )


@feature("T2")
async def test_migrate_prints_statements_that_make_the_same_tables(server: MariaDB, empty: str, tmp_path: Path) -> None:
    printed = await holdfast(tmp_path, "migrate", "--sql", "--url", empty)
    assert printed.returncode == 0, printed.stderr
    connection = pymysql.connect(
        **server.login(),
        database=name_of(empty),
        client_flag=CLIENT.MULTI_STATEMENTS,
        ssl_disabled=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(printed.stdout)
        while cursor.nextset():
            pass
    store = make(empty)
    await store.open()
    assert await store.migrate() == []
    await store.close()


@feature("T2")
async def test_migrate_brings_a_database_up_to_date_and_says_what_it_did(empty: str, tmp_path: Path) -> None:
    for expected in (STEPS[0], "nothing to do"):
        done = await holdfast(tmp_path, "migrate", "--url", empty)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


async def test_migrate_fails_at_once_when_the_server_is_away(tmp_path: Path) -> None:
    done = await holdfast(tmp_path, "migrate", "--url", "mysql://127.0.0.1:1/db")
    assert done.returncode != 0
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
