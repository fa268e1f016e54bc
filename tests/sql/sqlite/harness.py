"""A store on a SQLite file, on a steered clock. It can look at its own tables."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from holdfast.clock import ManualClock
from holdfast.stores.sql import open_sqlite
from holdfast.stores.sql.store import SqlStore
from holdfast.testing.contract.harness import StoreHarness
from tests.sql.core.looking import faults_of, snoozed_so_often


class FileHarness(StoreHarness):
    """A store on a file; another one may be opened on the same file."""

    store: SqlStore

    def __init__(self, file: Path, clock: ManualClock | None = None, **options: Any) -> None:
        self.file = file
        clock = clock or ManualClock()
        super().__init__(open_sqlite(f"sqlite:///{file}", clock=clock, **options), clock)

    def faults(self) -> list[str]:
        """Return what contradicts itself in the tables."""
        connection = sqlite3.connect(self.file)
        try:
            return faults_of(lambda sql: connection.execute(sql).fetchall())
        finally:
            connection.close()

    async def snoozed(self, item_id: str, times: int) -> None:
        """Count as if the job had been put off so many times: a thousand claims and settles take seconds."""
        with sqlite3.connect(self.file) as connection:
            rest = f"X'{snoozed_so_often(times)}'"
            connection.execute(f"UPDATE holdfast_job SET rest = {rest} WHERE id = ?", (item_id,))
        connection.close()


class SqliteHarness(FileHarness):
    """For the contract suites: a fresh file, which is removed at the end."""

    def __init__(self) -> None:
        # In memory where that is possible: the suites ask what is stored, not whether the disk has it.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-sqlite-", dir=place))
        super().__init__(self.folder / "queue.db")

    async def close(self) -> None:
        """Close the store and remove its file."""
        await super().close()
        shutil.rmtree(self.folder)
