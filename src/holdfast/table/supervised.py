"""The program of a service's process: `python -m holdfast.table.supervised FD PARENT`, started by the supervisor."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holdfast.table.processes import load_service
from holdfast.worker.supervisor.child import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.worker.supervisor.heart import ParentHeart
    from holdfast.worker.supervisor.messages import Begin
    from holdfast.worker.worker import Worker


@asynccontextmanager
async def open_service(begin: Begin, heart: ParentHeart) -> AsyncIterator[Worker[Any]]:
    """Import the service that `begin` names and make a worker of it, whose heart is the parent's."""
    service = load_service(begin.app)
    await service.table.checked()
    try:
        yield service.worker(begin.options, heart)
    finally:
        await service.table.let_go()


if __name__ == "__main__":
    serve(sys.argv[1:], open_service)
