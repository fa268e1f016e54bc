"""Every adapter beside the ledger, step by step. The seed is fixed here; `make soak` runs long and looks elsewhere."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.testing.contract.stateful import store_machine
from tests.contract.adapters import ADAPTERS
from tests.features import feature

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
#: Without shrinking, which takes minutes on long histories: a failure prints its steps, the long run shrinks them.
FIXED = settings(
    max_examples=120,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=QUIET,
)
LONG = settings(FIXED, max_examples=5_000, derandomize=False, phases=[Phase.generate, Phase.shrink], print_blob=True)
#: A step on a server of its own costs ten times one in this process, so fewer histories are tried. The store in memory is the
#: ledger itself, and that of the journal is tried with losses of power in tests/journal.
PROFILES = {
    "postgresql": settings(FIXED, max_examples=30),
    "mysql": settings(FIXED, max_examples=30),
    "memory": settings(FIXED, max_examples=80),
}
each_adapter = pytest.mark.parametrize("name", ADAPTERS)


@feature("B8", "B18", "B44", "T9", "T16", "BW20")
@each_adapter
def test_a_store_and_the_ledger_never_differ_and_keep_the_invariants(name: str) -> None:
    run_state_machine_as_test(store_machine(ADAPTERS[name]), settings=PROFILES.get(name, FIXED))


@pytest.mark.soak
@each_adapter
def test_a_store_and_the_ledger_never_differ_over_many_histories(name: str) -> None:
    run_state_machine_as_test(store_machine(ADAPTERS[name]), settings=LONG)
