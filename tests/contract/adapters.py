"""The adapters that the contract suites run against: one entry each."""

from collections.abc import Callable
from typing import Final

from holdfast.clock import ManualClock
from holdfast.job.ledger import validate
from holdfast.stores.memory import MemoryStore
from holdfast.testing.contract.harness import StoreHarness
from tests.journal.harness import JournalHarness
from tests.sql.mysql.harness import MariadbHarness
from tests.sql.postgresql.harness import PostgresHarness
from tests.sql.sqlite.harness import SqliteHarness


class MemoryHarness(StoreHarness):
    """The ledger alone; it can look at itself."""

    store: MemoryStore

    def __init__(self) -> None:
        clock = ManualClock()
        super().__init__(MemoryStore(clock=clock), clock)

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.store.ledger)]


ADAPTERS: Final[dict[str, Callable[[], StoreHarness]]] = {
    "memory": MemoryHarness,
    "journal": JournalHarness,
    "sqlite": SqliteHarness,
    "postgresql": PostgresHarness,
    "mysql": MariadbHarness,
}
