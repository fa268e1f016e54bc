"""Contract suites: what every `Source` and every `Store` must keep. Run them against your own.

Inherit `SourceContract` or `StoreContract` in a test module and supply the fixture that makes a harness; needs pytest
and pytest-asyncio. `StoreMachine` sets a store beside the ledger, step by step (needs hypothesis).
"""

from holdfast.testing.contract.harness import Look, SourceHarness, StoreHarness
from holdfast.testing.contract.source import SourceContract
from holdfast.testing.contract.store import StoreContract

__all__ = ["Look", "SourceContract", "SourceHarness", "StoreContract", "StoreHarness"]
