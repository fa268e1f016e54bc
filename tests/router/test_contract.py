"""Every executor keeps the contract."""

from holdfast.testing.contract_router import RouterContract


class TestExecutor(RouterContract):
    pass
