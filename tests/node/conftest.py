"""What tests of the node share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from tests.node.processes import NodeProcess  # noqa: E402  # asserts are rewritten before they are imported
from tests.node.remote import RemoteHarness  # noqa: E402


@pytest.fixture
def store_factory() -> Callable[[], RemoteHarness]:
    """How to make a fresh store behind a server."""
    return RemoteHarness


@pytest.fixture
def source_factory(store_factory: Callable[[], RemoteHarness]) -> Callable[[], RemoteHarness]:
    """A store is a source too."""
    return store_factory


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """How to start a node on a folder of the test; all are ended with it."""
    started: list[NodeProcess] = []

    def begin(*arguments: object, data: str = "data", **more: Any) -> NodeProcess:
        node = NodeProcess(tmp_path / data, *arguments, **more)
        started.append(node)
        return node

    yield begin
    for node in started:
        node.kill()
