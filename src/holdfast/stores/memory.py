"""The ledger alone: everything is kept in this process and goes with it. For tests, and for work that may be lost."""

from __future__ import annotations

from holdfast.store import Capabilities
from holdfast.stores.ledger_store import LedgerStore


class MemoryStore(LedgerStore):
    """The Store port in memory."""

    capabilities = Capabilities(durable=False, push=True, many_processes=False, transactional=False, sticky=True)
