"""Task tables beside the queues: in `holdfast status`, in the metrics, through the history port; and `holdfast ddl`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.cli.main import run
from holdfast.clock import ManualClock
from holdfast.histories.ledger import LedgerJobs
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.stores.memory import MemoryStore
from holdfast.table import TaskService, TaskTable
from holdfast.table.beside import history_beside, store_beside, tables_alone
from holdfast.telemetry.metrics import Metrics
from tests.features import feature
from tests.node.processes import NodeProcess, holdfast
from tests.table.databases import Databases
from tests.table.engines import make_engine
from tests.table.models import Mail, Order, create_all


@feature("G21")
async def test_a_table_stands_beside_the_queues_in_status_metrics_and_history(engine: AsyncEngine) -> None:
    orders = TaskTable(Order, engine)
    await orders.create([Order(order_id=one) for one in "abc"])
    await TaskService(orders, lambda order, handle: None).do_once(2)
    inner = MemoryStore(clock=ManualClock())
    store = store_beside(inner, [orders])
    await store.open()
    await store.enqueue([NewJob(id="1", task="t")])
    stats = await store.stats()
    assert set(stats.queues) == {"default", "orders"}
    assert (stats.queues["orders"]["succeeded"], stats.queues["orders"]["queued"]) == (2, 1)
    assert stats.total(State.QUEUED) == 2
    assert "orders" in stats.oldest_ready_at
    text = (await Metrics().scrape(store)).decode()
    assert 'queue_jobs{queue="orders",state="succeeded"} 2.0' in text
    history = history_beside(LedgerJobs(inner), [orders])
    found = {one.name: one for one in await history.queue_stats()}
    assert (found["orders"].states["queued"], found["orders"].size, found["default"].size) == (1, 1, 1)
    assert (await history.get("1")).task == "t"
    alone = (await Metrics().scrape(tables_alone(orders))).decode()
    assert 'queue_jobs{queue="orders",state="queued"} 1.0' in alone
    await store.close()
    await orders.close()


@feature("G21")
async def test_a_table_that_can_not_be_read_hides_no_queue(servers: Databases) -> None:
    engine = make_engine(servers.url("sqlite"))
    assert isinstance(engine, AsyncEngine)
    await create_all(engine)
    lost = make_engine(servers.url("sqlite"))
    assert isinstance(lost, AsyncEngine)
    store = store_beside(MemoryStore(clock=ManualClock()), [TaskTable(Order, lost), TaskTable(Mail, engine)])
    await store.open()
    assert set((await store.stats()).queues) == {"mails"}
    await store.close()
    await engine.dispose()
    await lost.dispose()


async def test_status_and_metrics_of_a_node_list_the_tables_of_its_app(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    engine = make_engine(Databases.file_url(file))
    assert isinstance(engine, AsyncEngine)
    await create_all(engine)
    await TaskTable(Order, engine).create([Order(order_id=one) for one in "abc"])
    await engine.dispose()
    node = NodeProcess(tmp_path / "data", app="tests.table.node_app:app", ORDERS_DB=str(file))
    try:
        shown = holdfast("status", "--data", node.data)
        assert shown.returncode == 0, shown.stderr
        [line] = [line for line in shown.stdout.splitlines() if line.split()[:1] == ["orders"]]
        assert line.split()[1:3] == ["0", "3"]
        as_json = json.loads(holdfast("status", "--data", node.data, "--json").stdout)
        assert as_json["queues"]["orders"]["queued"] == 3
        status, text = node.ask("GET", "/metrics")
        assert status == 200
        assert 'queue_jobs_pending{queue="orders"} 3.0' in text
        answers: dict[str, Any] = {}
        for path in (
            "queues",
            "queue-stats",
            "jobs?queue=orders",
            "jobs/orders:b",
            "failed-jobs",
            "worker-stats",
            "attempts",
            "stats",
            "jobs",
        ):
            status, answers[path] = node.ask("GET", f"/api/v1/{path}")
            assert status == 200, (path, answers[path])
        assert {one["queue"]["name"]: one["counts"].get("queued") for one in answers["queues"]}["orders"] == 3
        assert {one["name"]: one["states"]["queued"] for one in answers["queue-stats"]}["orders"] == 3
        assert {one["id"] for one in answers["jobs?queue=orders"]["items"]} == {"orders:a", "orders:b", "orders:c"}
        assert len(answers["jobs"]["items"]) == 3
        assert answers["jobs/orders:b"]["job"]["state"] == "queued"
        listed = holdfast("jobs", "ls", "--data", node.data, "--queue", "orders")
        assert "orders:c" in listed.stdout, listed.stderr
        status, problem = node.ask("PATCH", "/api/v1/queues/orders", {"paused": True})
        assert (status, "is a task table" in problem["detail"]) == (409, True)
        assert node.stop() == 0
    finally:
        node.kill()
    # Without a node: whoever works on the rows, the database tells how they stand.
    shown = holdfast("status", "--data", node.data, "--app", "tests.table.node_app:app", "--json", ORDERS_DB=str(file))
    assert json.loads(shown.stdout)["queues"]["orders"]["queued"] == 3, shown.stderr
    shown = holdfast("status", "--data", node.data, "--app", "tests.table.bare_app:app")
    assert "expected an app with task tables" in shown.stderr


# --- holdfast ddl --------------------------------------------------------------------------------------------------


@feature("G2")
def test_ddl_prints_the_statements_for_each_database() -> None:
    shown = holdfast("ddl", "tests.table.models:Line")
    assert shown.returncode == 0, shown.stderr
    for sign in ("-- sqlite", "-- postgresql", "-- mysql", "CREATE TABLE lines", "CREATE TABLE `lines`"):
        assert sign in shown.stdout
    assert shown.stdout.count("CREATE INDEX ix_lines_task") == 3


Ddl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ddl(capsys: pytest.CaptureFixture[str]) -> Ddl:
    """Run the command in this process; return its code and what it wrote."""

    def command(*arguments: str) -> tuple[int, str, str]:
        return run(["ddl", *arguments]), *capsys.readouterr()

    return command


def test_ddl_knows_mariadb_by_its_own_name(ddl: Ddl) -> None:
    code, out, err = ddl("tests.table.models:Line", "--dialect", "mariadb")
    assert code == 0, err
    assert "CREATE TABLE `lines`" in out


def test_ddl_for_one_database_and_for_a_table_that_exists(ddl: Ddl) -> None:
    shown = json.loads(ddl("tests.table.models:Line", "--dialect", "postgresql", "--adopt", "--json")[1])
    assert shown["table"] == "lines"
    assert list(shown["ddl"]) == ["postgresql"]
    assert "ALTER TABLE lines ADD COLUMN status VARCHAR(16);" in shown["ddl"]["postgresql"]


def test_ddl_says_what_is_wrong_with_a_name_or_a_model(ddl: Ddl) -> None:
    for name, said in (
        ("tests.table.models", "expected module:Model"),
        ("tests.table.nowhere:Order", "importing"),
        ("tests.table.models:Nothing", "has no 'Nothing'"),
        ("tests.table.models:Customer", "no TaskMixin"),
    ):
        code, _, err = ddl(name)
        assert code not in (0, 1)
        assert said in err
