"""After a process died, or the database was restored from a backup."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.features import feature
from tests.sql.core import aftermath
from tests.support.servers.postgres import PostgresServer


@feature("T16")
async def test_an_operation_goes_on_when_its_process_died(url: str, tmp_path: Path) -> None:
    await aftermath.an_operation_goes_on_when_its_process_died(url, tmp_path)


@feature("T16")
async def test_no_token_is_given_twice_after_a_restore(server: PostgresServer, url: str) -> None:
    name = urlsplit(url).path.removeprefix("/")

    def back_up() -> Callable[[], None]:
        server.sql(f"CREATE DATABASE {name}_backup TEMPLATE {name}")

        def restore() -> None:
            server.sql(f"DROP DATABASE {name} WITH (FORCE)")
            server.sql(f"CREATE DATABASE {name} TEMPLATE {name}_backup")

        return restore

    await aftermath.no_token_is_given_twice_after_a_restore(url, back_up)
