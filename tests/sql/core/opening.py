"""Opening a store on a server: what is refused, and what the message says. Inherit it, and say how to ask the database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.errors import ConfigError, MissingExtra, StoreUnavailable
from holdfast.job.model import NewJob
from tests.features import feature
from tests.sql.core import shop
from tests.sql.core.fleet import ROOT, environment
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.stores.sql.store import SqlStore


def make(url: str, **options: object) -> SqlStore:
    """A store on the machine's clock, not opened."""
    store: Any = make_store(url, clock=SystemClock(), **options)
    return store  # type: ignore[no-any-return]


async def refusal(store: SqlStore) -> str:
    """Open a store that refuses; return what it says."""
    with pytest.raises(ConfigError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


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


class Opening:
    """What holds on every server. `empty` is a fixture: the URL of a database without tables; `server` has an upstream."""

    scheme: ClassVar[str]
    driver: ClassVar[str]  # the module
    extra: ClassVar[str]  # what installs it
    steps: ClassVar[list[str]]  # of the schema
    filled: ClassVar[tuple[str, str]] = ("holdfast_feed", "pos")  # a table, and a column of it that the database fills

    async def ask(self, url: str, *statements: str) -> list[tuple[Any, ...]]:
        """Do statements, and return the rows of the last."""
        raise NotImplementedError

    def at_port(self, url: str, port: int) -> str:
        """The URL of the same database by way of a port of the loopback; its query is not empty."""
        raise NotImplementedError

    # --- the server

    def test_an_unknown_option_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown option retries.*pool_size"):
            make(f"{self.scheme}://h/db", retries=3)

    def test_a_missing_driver_names_its_extra(self) -> None:
        code = (
            f"import sys; sys.modules['{self.driver}'] = None\n"
            "from holdfast.connect import make_store; from holdfast.clock import SystemClock\n"
            f"make_store('{self.scheme}://h/db', clock=SystemClock())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert MissingExtra.__name__ in done.stderr
        assert f"pip install 'holdfast[{self.extra}]'" in done.stderr

    async def test_a_server_that_is_not_there_is_told_at_once_and_without_the_password(self) -> None:
        store = make(f"{self.scheme}://me:secret@127.0.0.1:1/db")
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/db does not answer") as caught:
            await store.open()
        assert "secret" not in str(caught.value)
        await store.close()

    async def test_a_server_that_resets_each_connection_is_unavailable(self, server: Any, empty: str) -> None:
        async with Proxy(server.upstream) as proxy:
            proxy.refuse()
            store = make(self.at_port(empty, proxy.port))
            with pytest.raises(StoreUnavailable):
                await store.open()
            await store.close()

    async def test_a_server_that_says_nothing_is_unavailable_after_the_time_to_connect(
        self, server: Any, empty: str
    ) -> None:
        async with Proxy(server.upstream) as proxy:
            proxy.silence()
            store = make(f"{self.at_port(empty, proxy.port)}&connect_timeout=0.2")
            with pytest.raises(StoreUnavailable):
                await store.open()
            await store.close()

    # --- the schema

    @feature("T2")
    async def test_a_database_without_tables_is_refused_with_what_to_run(self, empty: str) -> None:
        said = await refusal(make(empty))
        assert "found none of them" in said
        assert "holdfast migrate" in said

    @feature("T2")
    async def test_a_store_that_may_migrate_makes_its_tables_once(self, empty: str) -> None:
        for expected in (self.steps, []):
            assert await make(empty).migrate() == expected
        store = make(empty, auto_migrate=True)
        await store.open()
        assert await store.migrate() == []
        await store.close()

    @feature("T2")
    async def test_eight_who_migrate_at_once_take_each_step_once(self, empty: str) -> None:
        taken = await asyncio.gather(*(make(empty).migrate() for _ in range(8)))
        assert sorted(taken) == [*[[]] * 7, self.steps]

    async def test_a_schema_of_a_newer_release_is_refused_and_left_alone(self, empty: str) -> None:
        await make(empty).migrate()
        newer = str(len(self.steps) + 1)
        await self.ask(empty, f"UPDATE holdfast_meta SET value = '{newer}' WHERE name = 'schema'")
        assert "newer release" in await refusal(make(empty))
        assert "newer release" in await refusal(make(empty, auto_migrate=True))
        with pytest.raises(ConfigError, match="newer release"):
            await make(empty).migrate()
        with pytest.raises(ConfigError, match="newer release"):
            await make(empty).restored()
        assert await self.ask(empty, "SELECT value FROM holdfast_meta WHERE name = 'schema'") == [(newer,)]

    @pytest.mark.parametrize("table", ["holdfast_meta", "holdfast_job"])
    async def test_tables_of_another_application_are_refused_and_left_alone(self, empty: str, table: str) -> None:
        await self.ask(empty, f"CREATE TABLE {table} (whatever TEXT)", f"INSERT INTO {table} VALUES ('precious')")
        for store in (make(empty), make(empty, auto_migrate=True)):
            assert f"found others: {table}" in await refusal(store)
        with pytest.raises(ConfigError, match="another prefix="):
            await make(empty).migrate()
        assert await self.ask(empty, f"SELECT whatever FROM {table}") == [("precious",)]
        store = make(empty, prefix="jobs_", auto_migrate=True)
        await store.open()
        await store.close()

    async def test_a_table_that_lost_a_column_is_noticed_when_the_store_is_opened(self, empty: str) -> None:
        await make(empty).migrate()
        for table, column in (("holdfast_stat", "n"), self.filled):
            await self.ask(empty, f"ALTER TABLE {table} RENAME COLUMN {column} TO m")
            assert table in await refusal(make(empty))
            await self.ask(empty, f"ALTER TABLE {table} RENAME COLUMN m TO {column}")

    # --- holdfast migrate

    @feature("T2")
    async def test_migrate_brings_a_database_up_to_date_and_says_what_it_did(self, empty: str, tmp_path: Path) -> None:
        for expected in (self.steps[0], "nothing to do"):
            done = await holdfast(tmp_path, "migrate", "--url", empty)
            assert done.returncode == 0, done.stderr
            assert expected in done.stdout

    async def test_migrate_fails_at_once_when_the_server_is_away(self, tmp_path: Path) -> None:
        done = await holdfast(tmp_path, "migrate", "--url", f"{self.scheme}://127.0.0.1:1/db")
        assert done.returncode != 0
        assert "does not answer" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("processes", ["1", "2"])
    async def test_a_worker_that_begins_before_its_server_waits_for_it(
        self, empty: str, server: Any, tmp_path: Path, processes: str
    ) -> None:
        await make(empty).migrate()
        async with Proxy(server.upstream) as proxy:
            proxy.refuse()
            url = self.at_port(empty, proxy.port)
            command = [sys.executable, "-m", "holdfast", "worker", shop.NAME, "-q", "work=2", "--processes", processes]
            worker = await asyncio.create_subprocess_exec(
                *command, "--url", url, env=environment(url, tmp_path / "effects"), cwd=ROOT, stderr=subprocess.PIPE
            )
            try:
                async with asyncio.timeout(60.0):
                    assert "tries again" in await line_with(worker, "does not answer")
                    proxy.refuse(refusing=False)
                    assert await line_with(worker, "the store answers")
                    store = make(empty)
                    await store.open()
                    await store.enqueue([NewJob(id="one", task="shop.note", queue="work", payload=b'{"number":1}')])
                    [ended] = await store.finished(["one"], 30.0)
                    await store.close()
                    worker.send_signal(signal.SIGTERM)
                    _, said = await worker.communicate()
            finally:
                if worker.returncode is None:
                    worker.kill()
                    await worker.wait()
        assert ended.state == "succeeded"
        assert worker.returncode == 0, said

    async def test_a_worker_that_waits_for_its_server_stops_when_it_is_told(self, tmp_path: Path) -> None:
        url = f"{self.scheme}://127.0.0.1:1/db"
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdfast", "worker", shop.NAME, "--url", url),
            env=environment(url, tmp_path / "effects"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(60.0):
            await line_with(worker, "tries again")
            worker.send_signal(signal.SIGTERM)
            assert await worker.wait() == 0


async def line_with(process: asyncio.subprocess.Process, words: str) -> str:
    """Read what a process says until a line has these words; return it."""
    assert process.stderr is not None
    async for line in process.stderr:
        if words in line.decode():
            return line.decode()
    raise AssertionError(f"it ended with {await process.wait()} and never said {words!r}")
