from collections.abc import AsyncIterator

import pytest

from tests.worker.rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A memory store, a steered clock and a worker on demand."""
    rig = Rig()
    await rig.store.open()
    yield rig
    await rig.store.close()
