"""A store behind the HTTP API keeps the same contract as the store itself."""

from holdfast.testing.contract import SourceContract, StoreContract


class TestRemoteSource(SourceContract):
    pass


class TestRemoteStore(StoreContract):
    pass
