"""The contract of a `Source`: what a worker may rely on, whatever its items are.

class TestMyRows(SourceContract):
    @pytest.fixture
    def source_factory(self):
        return lambda: MyHarness(...)        # a SourceHarness
"""

from __future__ import annotations

from holdfast.testing.contract.claims import Claiming
from holdfast.testing.contract.endings import CancelRaces, Endings, Leases
from holdfast.testing.contract.fencing import Fencing
from holdfast.testing.contract.wake import Waiting


class SourceContract(Claiming, Fencing, Endings, CancelRaces, Leases, Waiting):
    """Inherit it, supply the fixture `source_factory`, and every test of the contract runs."""
