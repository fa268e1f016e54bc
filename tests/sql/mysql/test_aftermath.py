"""After a process died, or the database was restored from a backup."""

from collections.abc import Callable
from pathlib import Path

from tests.features import feature
from tests.sql.core import aftermath
from tests.sql.mysql.harness import ask
from tests.support.servers.mariadb import MariaDB


@feature("T16")
async def test_an_operation_goes_on_when_its_process_died(url: str, tmp_path: Path) -> None:
    await aftermath.an_operation_goes_on_when_its_process_died(url, tmp_path)


@feature("T16")
async def test_no_token_is_given_twice_after_a_restore(server: MariaDB, url: str) -> None:
    name = url.rpartition("/")[2]
    tables = [str(row[0]) for row in ask(server, name, "SHOW TABLES")]

    def columns(table: str) -> str:
        rows = ask(server, name, f"SHOW COLUMNS FROM {table}")
        return ", ".join(str(row[0]) for row in rows if "GENERATED" not in str(row[5]))

    def back_up() -> Callable[[], None]:
        for table in tables:
            ask(server, name, f"CREATE TABLE backup_of_{table} AS SELECT {columns(table)} FROM {table}")

        def restore() -> None:
            for table in tables:
                into = f"INSERT INTO {table} ({columns(table)}) SELECT {columns(table)} FROM backup_of_{table}"
                ask(server, name, f"DELETE FROM {table}", into)

        return restore

    await aftermath.no_token_is_given_twice_after_a_restore(url, back_up)
    ask(server, name, *(f"DROP TABLE backup_of_{table}" for table in tables))
