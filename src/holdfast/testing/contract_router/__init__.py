"""The contract of a `StatefulExecutor`: inherit `RouterContract`, supply the fixture `router_factory`."""

from holdfast.testing.contract_router.harness import RouterHarness
from holdfast.testing.contract_router.links import Links
from holdfast.testing.contract_router.matrix import Matrix
from holdfast.testing.contract_router.states import States

__all__ = ["RouterContract", "RouterHarness"]


class RouterContract(Matrix, Links, States):
    """Every test of the contract."""
