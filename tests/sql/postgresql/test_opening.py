"""Opening a store: what is refused, and what the message says to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from holdfast.errors import ConfigError
from holdfast.job import commands as c
from holdfast.job.state import State
from holdfast.stores.sql.dialects.postgresql import PostgresDialect, kind_of
from holdfast.stores.sql.drivers.asyncpg import refuse_old
from holdfast.stores.sql.migrate import migrations_of
from holdfast.stores.sql.schema import TABLES
from tests.features import feature
from tests.sql.core.opening import Opening, holdfast, make, refusal
from tests.sql.postgresql.harness import at_port
from tests.support.servers.postgres import PostgresServer

NEWEST = migrations_of(PostgresDialect("holdfast_"))[-1].number
STEPS = [migration.name for migration in migrations_of(PostgresDialect("holdfast_"))]


class TestOpening(Opening):
    scheme, driver, extra, steps = "postgresql", "asyncpg", "postgres", STEPS
    filled = ("holdfast_done", "xid")

    async def ask(self, url: str, *statements: str) -> list[tuple[Any, ...]]:
        found: list[asyncpg.Record] = []
        for statement in statements:
            found = await run_sql(url, statement)
        return [tuple(row) for row in found]

    def at_port(self, url: str, port: int) -> str:
        return at_port(url, port)


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


async def test_a_database_that_does_not_exist_is_a_setting_to_correct(server: PostgresServer) -> None:
    assert "name of the database" in await refusal(make(server.url("nowhere")))


async def test_a_user_who_does_not_exist_is_a_setting_to_correct(server: PostgresServer) -> None:
    assert "Check user, password" in await refusal(make(server.url("postgres", user="nobody_here")))


@pytest.mark.parametrize("option", ["nonsense=1", "work_mem=much"])
async def test_an_option_that_the_server_does_not_know_is_a_setting_to_correct(
    server: PostgresServer, option: str
) -> None:
    url = server.url("postgres")
    said = await refusal(make(f"{url}{'&' if '?' in url else '?'}{option}"))
    assert option.partition("=")[0] in said
    assert "Correct the query" in said


def test_an_old_server_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected PostgreSQL 14 or newer, found 13"):
        refuse_old(13, "PostgreSQL at db")
    refuse_old(14, "PostgreSQL at db")


# --- the schema ----------------------------------------------------------------------------------------------------


async def test_the_tables_have_the_columns_that_the_code_names_and_their_types(url: str) -> None:
    rows = await run_sql(
        url,
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
    )
    found = {(row["table_name"], row["column_name"]): row["data_type"] for row in rows}
    wanted = {
        (f"holdfast_{table}", column): kind_of(table, column) for table, known in TABLES.items() for column in known.all
    }
    # Of this database alone: the transactions that an export reads by, and what lists group by.
    wanted |= dict.fromkeys((("holdfast_done", "xid"), ("holdfast_feed", "xid"), ("holdfast_done", "kind")), "bigint")
    assert found == wanted


async def test_a_database_of_the_first_step_keeps_what_ended_in_its_lists(server: PostgresServer, empty: str) -> None:
    first, *later = migrations_of(PostgresDialect("holdfast_"))
    name = urlsplit(empty).path.lstrip("/")
    server.sql(";".join([*first.statements, "INSERT INTO holdfast_meta (name, value) VALUES ('schema', '1')"]), name)
    server.sql(
        "INSERT INTO holdfast_done (seq, id, payload, queue, task, prio, state, ready, run_at, created_at, queued_at,"
        " updated_at, lane, pod_epoch, suspect, attempt, token, worker, version, lease_until, cancel_asked, finished_at)"
        " VALUES (1, 'old', '{}', 'mail', 't', 0, 6, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 'w', '', 0, 0, 1);"
        "INSERT INTO holdfast_tally (queue, task, worker, state, shard, n, timed, took)"
        " VALUES ('mail', 't', 'w', 6, 0, 1, 0, 0)",
        name,
    )
    store = make(empty)
    assert await store.migrate() == [step.name for step in later]
    await store.open()
    page = await store.find(c.JobFilter(states=(State.SUCCEEDED,), queue="mail"), c.Page())
    await store.close()
    assert [job.id for job in page.items] == ["old"]


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
