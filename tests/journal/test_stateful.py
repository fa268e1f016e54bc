"""The journal beside the ledger, step by step; snapshots, restarts and losses of power are steps like any other."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.testing.contract.harness import StoreHarness
from holdfast.testing.contract.stateful import JOBS_MAX, StoreMachine, new_jobs
from tests.features import feature
from tests.journal.simulated import SimHarness, assert_same, replayed, restored

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
FIXED = settings(
    max_examples=120,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=QUIET,
)
LONG = settings(FIXED, max_examples=5_000, derandomize=False, phases=[Phase.generate, Phase.shrink], print_blob=True)
seeds = st.integers(0, 2**32)


class JournalMachine(StoreMachine):
    """All that any store must do, on a disk that loses power."""

    h: SimHarness

    def make(self) -> StoreHarness:
        """A store on a fresh disk."""
        self.removed = False
        return SimHarness()

    def run(self, call: Any) -> Any:
        """Run one call; the log has no thread of its own."""
        return self.loop.run_until_complete(self.h.carried_out(call))

    def restarted(self) -> None:
        """The model goes through the same start: it knows no beats either, for those are not logged."""
        self.model.ledger.beats.clear()
        self.model.do(c.Open(alone=True))
        assert self.h.store.ledger.epoch == self.model.ledger.epoch

    @rule(clear=st.booleans())
    def snapshot(self, clear: bool) -> None:
        """A snapshot of the files: with it, and without it, recovery comes to the same state (I14)."""
        number = self.h.snapshot(clear=clear).number
        self.removed = self.removed or (clear and "00000000000000000001.log" not in self.h.disk.list())
        now = restored(self.h.disk, number, self.h.log.synced)
        assert_same(now, self.h.store.ledger)
        if not self.removed:
            assert_same(now, replayed(self.h.disk, self.h.log.synced))

    snapshot_more = snapshot  # a rule that stands twice is chosen twice as often

    @rule()
    def restart(self) -> None:
        """A clean stop and start."""
        self.loop.run_until_complete(self.h.reopen())
        self.restarted()

    @rule(seed=seeds)
    def lose_power(self, seed: int) -> None:
        """Power fails between two calls: nothing that was answered is missing, nothing else is there (I1, I16)."""
        self.loop.run_until_complete(self.h.cut(random.Random(seed)))
        self.restarted()

    @precondition(lambda self: len(self.ids) < JOBS_MAX)
    @rule(fields=new_jobs, seed=seeds, written=st.booleans())
    def lose_power_in_an_enqueue(self, fields: dict[str, Any], seed: int, written: bool) -> None:
        """Power fails while an enqueue waits for the disk: it happened whole, or not at all."""
        fields = {**fields, "task": "undefined", "unique": None}
        command = c.Enqueue(jobs=tuple(NewJob(id=f"cut-{len(self.ids)}-{n}", **fields) for n in range(3)))
        self.h.store._apply(command)
        if written:
            self.h.disk.before = _no_sync
            self.h.log.pump()
            self.h.disk.before = None
        before = {job.id for job in self.model.ledger.table.values()}
        self.loop.run_until_complete(self.h.cut(random.Random(seed)))
        found = {job.id for job in self.jobs()} - before
        wanted = {job.id for job in command.jobs}
        assert found in (set(), wanted)
        if found:
            self.model.do(command)
            self._accepted(sorted(wanted))
        self.restarted()


def _no_sync(call: str, name: str) -> None:
    if call == "sync" and name.endswith(".log"):
        raise OSError(5, "power is failing")


@feature("B17", "B44", "B48", "B57", "B8")
def test_the_journal_and_the_ledger_never_differ_whatever_happens_to_the_power() -> None:
    run_state_machine_as_test(JournalMachine, settings=FIXED)


@pytest.mark.soak
def test_the_journal_and_the_ledger_never_differ_over_many_losses_of_power() -> None:
    run_state_machine_as_test(JournalMachine, settings=LONG)
