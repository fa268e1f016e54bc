"""Opening a store: what is refused, and what the message says to do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, MissingExtra, StoreUnavailable
from holdfast.stores.sql.dialects.postgresql import PostgresDialect, kind_of
from holdfast.stores.sql.drivers.asyncpg import refuse_old
from holdfast.stores.sql.migrate import migrations_of
from holdfast.stores.sql.postgresql import PostgresStore
from holdfast.stores.sql.schema import TABLES
from tests.features import feature
from tests.sql.postgresql.harness import at_port
from tests.support.proxy import Proxy
from tests.support.servers.postgres import PostgresServer

NEWEST = migrations_of(PostgresDialect("holdfast_"))[-1].number
STEPS = [migration.name for migration in migrations_of(PostgresDialect("holdfast_"))]


def make(url: str, **options: object) -> PostgresStore:
    store = make_store(url, clock=SystemClock(), **options)
    assert isinstance(store, PostgresStore)
    return store


async def refusal(store: PostgresStore) -> str:
    """Open a store that refuses; return what it says."""
    with pytest.raises(ConfigError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


async def run_sql(url: str, text: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(text)
        return rows
    finally:
        await connection.close()


# --- the server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost:notaport/db", "postgresql://user:password@host:port/database"),
        ("postgresql://localhost:99999/db", "postgresql://user:password@host:port/database"),
        ("postgresql://h/db?pool_size=many", "pool_size: expected a number"),
        ("postgresql://h/db?prefix=No-Good", "prefix"),
        ("postgresql://h/db?schema=no.good", "schema"),
        ("postgresq://h/db", "expected one of"),
    ],
)
def test_a_wrong_url_is_told_before_anything_is_connected_to(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        make(url)
    assert said in str(caught.value)


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown option retries.*pool_size"):
        make("postgresql://h/db", retries=3)


def test_a_missing_driver_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from holdfast.connect import make_store; from holdfast.clock import SystemClock\n"
        "make_store('postgresql://h/db', clock=SystemClock())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingExtra.__name__ in done.stderr
    assert "pip install 'holdfast[postgres]'" in done.stderr


async def test_a_server_that_is_not_there_is_told_at_once_and_without_the_password() -> None:
    store = make("postgresql://me:secret@127.0.0.1:1/db")
    begin = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/db does not answer") as caught:
        await store.open()
    assert "secret" not in str(caught.value)
    assert asyncio.get_running_loop().time() - begin < 30.0
    await store.close()


async def test_a_server_that_resets_each_connection_is_unavailable(server: PostgresServer) -> None:
    async with Proxy(server.upstream) as proxy:
        proxy.refuse()
        store = make(at_port(server.url(), proxy.port))
        with pytest.raises(StoreUnavailable):
            await store.open()
        await store.close()


async def test_a_server_that_says_nothing_is_unavailable_after_the_time_to_connect(server: PostgresServer) -> None:
    async with Proxy(server.upstream) as proxy:
        proxy.silence()
        store = make(f"{at_port(server.url(), proxy.port)}&connect_timeout=0.2")
        with pytest.raises(StoreUnavailable):
            await store.open()
        await store.close()


async def test_a_database_that_does_not_exist_is_a_setting_to_correct(server: PostgresServer) -> None:
    assert "name of the database" in await refusal(make(server.url("nowhere")))


async def test_a_user_who_does_not_exist_is_a_setting_to_correct(server: PostgresServer) -> None:
    assert "Check user, password" in await refusal(make(server.url("postgres", user="nobody_here")))


def test_an_old_server_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected PostgreSQL 14 or newer, found 13"):
        refuse_old(13, "PostgreSQL at db")
    refuse_old(14, "PostgreSQL at db")


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


async def test_a_schema_of_a_newer_release_is_refused_and_left_alone(url: str) -> None:
    await run_sql(url, f"UPDATE holdfast_meta SET value = '{NEWEST + 1}' WHERE name = 'schema'")
    assert "newer release" in await refusal(make(url))
    assert "newer release" in await refusal(make(url, auto_migrate=True))
    with pytest.raises(ConfigError, match="newer release"):
        await make(url).migrate()
    await run_sql(url, f"UPDATE holdfast_meta SET value = '{NEWEST}' WHERE name = 'schema'")


@pytest.mark.parametrize("table", ["holdfast_meta", "holdfast_job"])
async def test_tables_of_another_application_are_refused_and_left_alone(empty: str, table: str) -> None:
    await run_sql(empty, f"CREATE TABLE {table} (whatever text)")
    await run_sql(empty, f"INSERT INTO {table} VALUES ('precious')")
    for store in (make(empty), make(empty, auto_migrate=True)):
        assert f"found others: {table}" in await refusal(store)
    with pytest.raises(ConfigError, match="another prefix="):
        await make(empty).migrate()
    assert [row["whatever"] for row in await run_sql(empty, f"SELECT * FROM {table}")] == ["precious"]
    store = make(empty, prefix="jobs_", auto_migrate=True)
    await store.open()
    await store.close()


async def test_a_table_that_lost_a_column_is_noticed_when_the_store_is_opened(url: str) -> None:
    await run_sql(url, "ALTER TABLE holdfast_stat RENAME COLUMN n TO m")
    assert "holdfast_stat" in await refusal(make(url))
    await run_sql(url, "ALTER TABLE holdfast_stat RENAME COLUMN m TO n")


async def test_the_tables_have_the_columns_that_the_code_names_and_their_types(url: str) -> None:
    rows = await run_sql(
        url,
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND is_generated = 'NEVER'",
    )
    found = {(row["table_name"], row["column_name"]): row["data_type"] for row in rows}
    wanted = {
        (f"holdfast_{table}", column): kind_of(table, column) for table, known in TABLES.items() for column in known.all
    }
    # Of this database alone: the transactions that an export reads by.
    wanted |= dict.fromkeys((("holdfast_done", "xid"), ("holdfast_feed", "xid")), "bigint")
    assert found == wanted


async def test_two_stores_share_a_database_under_other_names(empty: str) -> None:
    stores = [make(empty, auto_migrate=True, **names) for names in ({}, {"prefix": "b_"}, {"schema": "jobs"})]
    for store in stores:
        await store.open()
    await stores[2].define([])
    for store in stores:
        await store.close()
    rows = await run_sql(empty, "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables")
    names = {row["name"] for row in rows}
    assert {"public.holdfast_job", "public.b_job", "jobs.holdfast_job"} <= names
    assert await make(f"{empty}&schema=jobs").migrate() == []


# --- rights --------------------------------------------------------------------------------------------------------


async def test_an_account_that_may_not_make_tables_is_told_which_right_is_missing(
    server: PostgresServer, empty: str
) -> None:
    server.sql("CREATE ROLE maker LOGIN")
    with pytest.raises(ConfigError, match=r"refused a right.*Grant it"):
        await make(empty.replace("postgres@", "maker@")).migrate()
    server.sql("DROP ROLE maker")


async def test_an_account_that_may_not_write_the_tables_is_told_so(server: PostgresServer, url: str) -> None:
    server.sql("CREATE ROLE reader LOGIN")
    said = await refusal(make(url.replace("postgres@", "reader@")))
    assert "refused a right" in said
    server.sql("DROP ROLE reader")


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
async def test_migrate_prints_statements_that_make_the_same_tables(
    server: PostgresServer, empty: str, tmp_path: Path
) -> None:
    printed = await holdfast(tmp_path, "migrate", "--sql", "--url", empty)
    assert printed.returncode == 0, printed.stderr
    server.sql(printed.stdout, urlsplit(empty).path.lstrip("/"))
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
    done = await holdfast(tmp_path, "migrate", "--url", "postgresql://127.0.0.1:1/db")
    assert done.returncode != 0
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
