"""Every adapter keeps the contract of a source."""

from holdfast.testing.contract import SourceContract


class TestSource(SourceContract):
    pass
