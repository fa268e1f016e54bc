"""Migrations that Alembic makes of task tables: they run as they are written, and leave nothing to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, String, inspect
from sqlalchemy.engine import URL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from holdfast.job.state import State
from holdfast.table import TaskMixin, TaskService, TaskTable
from tests.features import feature
from tests.table.databases import SYNC, Databases
from tests.table.engines import make_engine
from tests.table.models import Base, Line, Mail, Order

_NO_TARGET = "target_metadata = None"


@pytest.fixture(params=SYNC)
def url(request: pytest.FixtureRequest, servers: Databases) -> URL:
    """An empty database."""
    return servers.url(request.param)


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    made = make_engine(url, sync=True)
    assert isinstance(made, Engine)
    yield made
    made.dispose()


def environment(folder: Path, url: URL, metadata: MetaData) -> Config:
    """Return what `alembic init` makes, pointed at a database and at models."""
    command.init(Config(folder / "alembic.ini"), str(folder / "scripts"))
    script = folder / "scripts" / "env.py"
    assert _NO_TARGET in script.read_text()
    script.write_text(script.read_text().replace(_NO_TARGET, 'target_metadata = config.attributes["metadata"]'))
    # Without its file: that would set up logging for the whole process.
    config = Config(attributes={"metadata": metadata})
    config.set_main_option("script_location", str(folder / "scripts"))
    config.set_main_option("sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%"))
    return config


def migrate(config: Config, folder: Path, name: str) -> str:
    """Write a migration and run it; return its text."""
    command.revision(config, name, autogenerate=True)
    command.upgrade(config, "head")
    [made] = (folder / "scripts" / "versions").glob(f"*_{name}.py")
    return made.read_text()


@feature("G1", "G2")
async def test_a_generated_migration_makes_tables_that_work_and_a_second_one_finds_nothing(
    tmp_path: Path, url: URL, engine: Engine
) -> None:
    config = environment(tmp_path, url, Base.metadata)
    text = migrate(config, tmp_path, "tables")
    assert "holdfast" not in text, "a migration imports nothing of ours"
    assert "sa.Column('task_run_at', sa.BigInteger(), server_default=sa.text('0'), nullable=False)" in text
    command.check(config)  # raises when there is anything left to do
    for model, row in ((Order, Order(order_id="a")), (Line, Line(order_id="a", number=1)), (Mail, Mail())):
        table: TaskTable[Any] = TaskTable(model, engine)
        await table.create(row)
        assert len((await TaskService(table, lambda row, handle: None).do_once()).done) == 1
        assert (await table.stats())[State.SUCCEEDED] == 1
        await table.close()
    command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]


@feature("G1")
async def test_a_generated_migration_adds_the_columns_to_a_table_that_has_rows(
    tmp_path: Path, url: URL, engine: Engine
) -> None:
    class Before(DeclarativeBase):
        pass

    class Plain(Before):
        __tablename__ = "parcels"
        id: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[str | None] = mapped_column(String(20))

    class After(DeclarativeBase):
        pass

    class Parcel(TaskMixin, After):
        __tablename__ = "parcels"
        id: Mapped[int] = mapped_column(primary_key=True)
        task_state: Mapped[str | None] = mapped_column("status", String(20))

    Before.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO parcels (id, status) VALUES (1, NULL), (2, 'queued')")
    config = environment(tmp_path, url, After.metadata)
    assert "op.add_column('parcels', sa.Column('task_token', sa.BigInteger()" in migrate(config, tmp_path, "adopt")
    command.check(config)
    parcels = TaskTable(Parcel, engine)
    assert (await TaskService(parcels, lambda row, handle: None).do_once()).done == (2,)
    assert [row.id for row in (await parcels.list(Parcel.task_state == State.SUCCEEDED)).items] == [2]
    await parcels.close()
