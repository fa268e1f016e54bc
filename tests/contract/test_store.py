"""Every adapter keeps the contract of a store."""

from holdfast.testing.contract import StoreContract


class TestStore(StoreContract):
    pass
