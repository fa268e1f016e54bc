"""The parent of worker processes as a program: `python -m tests.worker_processes.parent PROCESSES GRACE`."""

import asyncio
import os
import sys

from holdfast.worker.options import WorkerOptions
from holdfast.worker.supervisor import Supervision, supervise
from tests.support.socket_store import SocketStore
from tests.worker_processes import fleet


async def main(processes: int, grace: float) -> int:
    store = SocketStore(os.environ[fleet.SOCKET])
    plan = Supervision(app=fleet.NAME, processes=processes, options=WorkerOptions(grace=grace))
    try:
        return await supervise(store, plan)
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]))))
