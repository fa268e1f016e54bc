"""The contracts of JobRepository and WorkerRepository. An adapter inherits both and supplies the fixture `history_factory`.

class TestMine(JobRepositoryContract, WorkerRepositoryContract):
    @pytest.fixture
    def history_factory(self):
        return lambda: MyHarness(...)        # a HistoryHarness
"""

from __future__ import annotations

from holdfast.testing.contract_history.figures import Figures
from holdfast.testing.contract_history.harness import HistoryHarness, attempt
from holdfast.testing.contract_history.reads import Reads
from holdfast.testing.contract_history.records import Records
from holdfast.testing.contract_history.statistics import StatisticsOfAttempts
from holdfast.testing.contract_history.workers import WorkerRepositoryContract

__all__ = ["HistoryHarness", "JobRepositoryContract", "WorkerRepositoryContract", "attempt"]


class JobRepositoryContract(Records, Reads, Figures, StatisticsOfAttempts):
    """Inherit it, supply the fixture `history_factory`, and every test of the contract runs."""
