from collections.abc import AsyncIterator

import pytest

from tests.worker.rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.store.open()
    yield rig
    await rig.open_gates()
    await rig.store.close()
