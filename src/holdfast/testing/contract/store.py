"""The contract of a `Store`: what every store keeps, besides the contract of a `Source`.

class TestMyStore(StoreContract):
    @pytest.fixture
    def store_factory(self):
        clock = ManualClock()
        return lambda: StoreHarness(MyStore(clock=clock), clock)
"""

from __future__ import annotations

from holdfast.testing.contract.batches import Batches
from holdfast.testing.contract.bulk import BulkControl
from holdfast.testing.contract.clocks import Clocks
from holdfast.testing.contract.content import Content
from holdfast.testing.contract.control import Control, Deleting, Editing, Misfits, Replays
from holdfast.testing.contract.counts import Counts
from holdfast.testing.contract.definitions import Definitions, DefinitionSwitch
from holdfast.testing.contract.evidence import Evidence
from holdfast.testing.contract.fleet import Instances, WorkerConfigs
from holdfast.testing.contract.intake import Duplicates, Intake
from holdfast.testing.contract.lines import FleetLimits, KeyOrder
from holdfast.testing.contract.queues import Queues
from holdfast.testing.contract.reads import Finishing, Pages, Statistics
from holdfast.testing.contract.readying import Lifecycle, Readied
from holdfast.testing.contract.records import Attempts, Results
from holdfast.testing.contract.retention import Retention
from holdfast.testing.contract.schedules import Schedules
from holdfast.testing.contract.searches import Searches
from holdfast.testing.contract.sticky import StickyJobs
from holdfast.testing.contract.suspects import Suspects
from holdfast.testing.contract.table import StateTable
from holdfast.testing.contract.ticks import Steering, Ticks
from holdfast.testing.contract.unique import ConflictActions, UniqueKeys


class StoreContract(
    StateTable,
    Intake,
    Batches,
    Duplicates,
    UniqueKeys,
    ConflictActions,
    KeyOrder,
    FleetLimits,
    Queues,
    Definitions,
    DefinitionSwitch,
    Control,
    Editing,
    Misfits,
    Replays,
    Deleting,
    BulkControl,
    Attempts,
    Evidence,
    Results,
    Suspects,
    Pages,
    Searches,
    Counts,
    Statistics,
    Finishing,
    Schedules,
    Ticks,
    Steering,
    Clocks,
    Instances,
    WorkerConfigs,
    Retention,
    Content,
    StickyJobs,
    Readied,
    Lifecycle,
):
    """Inherit it, supply the fixture `store_factory`, and every test of the contract runs."""
