"""Every executor beside a plain model of the rules. The seed is fixed; `make soak` looks elsewhere and longer."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from holdfast.testing.contract_router.harness import RouterHarness
from holdfast.testing.contract_router.model import STEPS, Step, compare
from tests.features import feature

FIXED = settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LONG = settings(FIXED, max_examples=5_000, derandomize=False, phases=[Phase.generate, Phase.shrink], print_blob=True)


def check(make: Callable[[], RouterHarness], chosen: settings) -> None:
    """Hold random histories against the model."""

    @chosen
    @given(STEPS)
    def history(steps: list[Step]) -> None:
        async def run() -> None:
            harness = make()
            await harness.open()
            try:
                await compare(harness, steps)
            finally:
                await harness.close()

        asyncio.run(run())

    history()


@feature("S5", "S6", "S8", "S10", "S12")
def test_an_executor_and_a_plain_model_of_its_rules_never_differ(router_factory: Callable[[], RouterHarness]) -> None:
    check(router_factory, FIXED)


@pytest.mark.soak
def test_an_executor_and_a_plain_model_never_differ_over_many_histories(
    router_factory: Callable[[], RouterHarness],
) -> None:
    check(router_factory, LONG)
