"""Many processes on one table; a process that is killed in the middle."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from holdfast.errors import BadAppModule, ConfigError
from holdfast.job.state import State
from holdfast.table import Handle, TaskService, TaskTable
from holdfast.table.processes import load_service
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine
from tests.table.models import Order, create_all

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0


@pytest.fixture
def url(servers: Databases, driver: str) -> URL:
    return servers.url(driver)


@pytest_asyncio.fixture
async def orders(url: URL) -> AsyncIterator[TaskTable[Order]]:
    engine = make_engine(url)
    await create_all(engine)
    assert isinstance(engine, AsyncEngine)
    table = TaskTable(Order, engine)
    yield table
    await table.close()
    await engine.dispose()


@contextmanager
def processes(url: URL, mode: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Start so many processes; end those that are left."""
    command = [sys.executable, "-m", "tests.table.worker_process", url.render_as_string(hide_password=False), mode]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            for end in (process.stdin, process.stdout):
                assert end is not None
                end.close()


def begin(started: list[subprocess.Popen[str]]) -> None:
    """Let processes begin together, once all are ready: the first would be through before the last has started."""
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


async def drained_by(orders: TaskTable[Order], url: URL, rows: int, count: int) -> None:
    """Let `count` processes run `rows` rows; check that each succeeded once, and that nobody did it twice."""
    with processes(url, "drain", count) as started:
        for start in range(0, rows, 1_000):
            await orders.create([Order(order_id=f"n-{n:06d}") for n in range(start, min(rows, start + 1_000))])
        await asyncio.to_thread(begin, started)
        outputs = [(await asyncio.to_thread(one.communicate, timeout=PATIENCE))[0] for one in started]
        assert [one.returncode for one in started] == [0] * count
    runs = Counter(line for output in outputs for line in output.splitlines() if line)
    assert (len(runs), set(runs.values())) == (rows, {1})
    assert sum(1 for output in outputs if output.strip()) > 1, "they worked beside each other"
    assert (await orders.stats())[State.SUCCEEDED] == rows
    page = await orders.list(Order.tries != 1)
    assert page.items == ()
    page = await orders.list(Order.task_attempt != 1)
    assert page.items == ()


@feature("A7", "G18", "GW7")
@pytest.mark.parametrize("driver", ["sqlite", "postgresql"])
async def test_a7_ten_processes_run_each_of_10000_rows_exactly_once(orders: TaskTable[Order], url: URL) -> None:
    await drained_by(orders, url, 10_000, 10)


# A statement for each row is a way to the server and back: ten thousand of them are for the long run.
@feature("A7", "G18", "GW7")
@pytest.mark.parametrize("driver", ["mariadb"])
@pytest.mark.parametrize("rows", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_ten_processes_run_each_row_on_mariadb_exactly_once(
    orders: TaskTable[Order], url: URL, rows: int
) -> None:
    await drained_by(orders, url, rows, 10)


@feature("G16", "GW3")
async def test_the_rows_of_a_service_that_is_killed_are_run_by_another(orders: TaskTable[Order], url: URL) -> None:
    await orders.create([Order(order_id=f"n-{n}") for n in range(5)])
    with processes(url, "hang", 1) as [process]:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE)
        assert line.startswith("running")
        with pytest.raises(ConfigError, match="found 30 s here and 2 s in another process"):
            await TaskService(orders, lambda order, handle: None).run(lease=30.0)
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def charge(order: Order, handle: Handle) -> None:
        handle.done(receipt="by the second")

    service = TaskService(orders, charge, on_error=lambda *_: None)
    await service.start(lease=2.0, interval=0.05)
    async with asyncio.timeout(PATIENCE):
        while (await orders.stats())[State.SUCCEEDED] < 5:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.05)
    await service.stop()
    rows = (await orders.list()).items
    assert {row.receipt for row in rows} == {"by the second"}
    assert sum(row.task_failures for row in rows) >= 1
    assert all(row.task_attempt == 1 + row.task_failures for row in rows)


@feature("G13")
async def test_a_served_table_is_drained_by_a_signal_and_the_process_ends_cleanly(
    orders: TaskTable[Order], url: URL
) -> None:
    await orders.create([Order(order_id="a"), Order(order_id="b")])
    with processes(url, "serve", 1) as [process]:
        assert process.stdout is not None
        for _ in range(2):
            line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE)
            assert line.startswith("running")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
    assert {row.receipt for row in (await orders.list()).items} == {"served"}


@feature("GW5", "G28")
async def test_a_row_that_kills_its_process_is_convicted_and_its_neighbours_are_done(
    orders: TaskTable[Order], url: URL
) -> None:
    await orders.create([Order(order_id=f"n-{n}") for n in range(6)])
    environment = {**os.environ, "ORDERS_URL": url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "tests.table.poison"]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            async with asyncio.timeout(PATIENCE):
                while (await orders.stats())[State.FAILED] + (await orders.stats())[State.SUCCEEDED] < 6:
                    assert process.poll() is None
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        finally:
            process.kill()
    rows = {row.order_id: row for row in (await orders.list()).items}
    assert {name for name, row in rows.items() if row.task_state is State.FAILED} == {"n-2"}
    assert "poison: its process died 3 times" in (rows["n-2"].task_note or "")
    assert all(row.task_failures <= 1 for name, row in rows.items() if name != "n-2")


def test_processes_of_a_service_need_its_name() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///nowhere.db")
    service = TaskService(TaskTable(Order, engine), lambda order, handle: None)
    with pytest.raises(ConfigError, match=r'name="shop.work:service"'):
        service.serve(processes=2)
    for name, said in (("work", "expected module:attribute"), ("tests.table.models:Order", "to be a TaskService")):
        with pytest.raises(BadAppModule, match=said):
            load_service(name)
