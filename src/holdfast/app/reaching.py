"""Waiting for a store that does not answer when a worker program begins: its server may come after it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdfast.errors import NodeNotRunning, StoreUnavailable
from holdfast.worker.insist import pause
from holdfast.worker.signals import install_signals

if TYPE_CHECKING:
    from holdfast.app.holdfast import Holdfast

logger: Final = logging.getLogger("holdfast.app")


async def reach(app: Holdfast) -> bool:
    """Open the app's store, and try again while it does not answer; False: a signal said stop meanwhile.

    What trying again can not mend is raised: a wrong URL, tables that are not there, a folder that no node serves.
    """
    stop, failures = asyncio.Event(), 0
    with install_signals(stop.set):
        while not stop.is_set():
            try:
                await app.open()
            except NodeNotRunning:
                raise
            except StoreUnavailable as error:
                failures += 1
                if failures == 1:
                    logger.warning("%s The worker tries again until it does, or until it is told to stop.", error)
            else:
                if failures:
                    logger.warning("the store answers; it was tried %d times", failures + 1)
                return not stop.is_set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause(failures)):
                    await stop.wait()
    return False
