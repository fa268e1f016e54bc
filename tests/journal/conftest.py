"""A journal in a folder of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("tests.journal.simulated", "tests.journal.history", "holdfast.testing.contract")

from tests.journal.harness import FolderHarness  # noqa: E402  # asserts are rewritten before they are imported


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "data"


@pytest_asyncio.fixture
async def h(folder: Path) -> AsyncIterator[FolderHarness]:
    """An open journal."""
    harness = FolderHarness(folder)
    await harness.open()
    yield harness
    harness.disk.let_go()
    await harness.close()
