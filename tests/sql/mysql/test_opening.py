"""Opening a store: what is refused, and what the message says to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from pymysql.constants import CLIENT

from holdfast.errors import ConfigError
from holdfast.job.model import NewJob
from holdfast.stores.sql.dialects.mysql import MysqlDialect
from holdfast.stores.sql.drivers.asyncmy import refuse_old
from holdfast.stores.sql.migrate import migrations_of
from holdfast.stores.sql.schema import TABLES
from tests.features import feature
from tests.sql.core.opening import Opening, holdfast, make, refusal
from tests.sql.mysql.harness import ask, at_port
from tests.support.servers.mariadb import MariaDB, shared

STEPS = [migration.name for migration in migrations_of(MysqlDialect("holdfast_"))]


class TestOpening(Opening):
    scheme, driver, extra, steps = "mysql", "asyncmy", "mysql", STEPS

    async def ask(self, url: str, *statements: str) -> list[tuple[Any, ...]]:
        return ask(shared(), name_of(url), *statements)

    def at_port(self, url: str, port: int) -> str:
        return f"{at_port(url, port)}?patience=5"


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


@pytest.mark.parametrize("url", ["mariadb://u@h/db", "mysql+asyncmy://u@h/db", "mysql://u:p%40ss@h/db?ssl=true"])
def test_other_ways_to_write_the_scheme_are_understood(url: str) -> None:
    make(url)


async def test_a_database_that_does_not_exist_is_a_setting_to_correct(server: MariaDB) -> None:
    assert "Unknown database" in await refusal(make(server.url("nowhere")))


async def test_a_wrong_password_is_a_setting_to_correct_and_is_not_shown(server: MariaDB) -> None:
    said = await refusal(make(server.url("mysql", user="root", password="guessed")))
    assert "Check user, password" in said
    assert "guessed" not in said


@pytest.mark.parametrize(
    ("said", "mariadb", "wanted"),
    [
        ("5.7.44-log", False, "MySQL 8.0.19 or newer"),
        ("8.0.18", False, "MySQL 8.0.19 or newer"),
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
