"""A store that worker processes share, an app on it, and supervised worker processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.app.holdfast import Holdfast
from holdfast.job.model import Job
from holdfast.worker.options import WorkerOptions
from holdfast.worker.supervisor import ExitCode, Supervision, Supervisor
from tests.support.socket_store import SocketStore, served
from tests.worker_processes import fleet
from tests.worker_processes.box import LIMIT


@pytest.fixture
def socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with served(tmp_path / "store.sock") as path:
        monkeypatch.setenv(fleet.SOCKET, path)
        yield path


class Fleet:
    """The test's own side: enqueues, looks, and runs supervised worker processes."""

    def __init__(self, app: Holdfast, store: SocketStore) -> None:
        self.app, self.store = app, store

    async def enqueue(self, task: str, **arguments: Any) -> str:
        return (await self.app.enqueue(task, arguments)).id

    async def ended(self, *ids: str) -> list[Job]:
        """Wait until these jobs have ended; return them in the order of `ids`."""
        found = {job.id: job for job in await self.store.finished(list(ids), LIMIT)}
        return [found[job_id] for job_id in ids]

    async def job(self, job_id: str) -> Job:
        return await self.app.jobs.get(job_id)

    async def until(self, check: Callable[[], Awaitable[Any]]) -> Any:
        """Wait until `check` gives something true; return that."""
        async with asyncio.timeout(LIMIT):
            while not (found := await check()):  # noqa: ASYNC110 - what other processes do is no event here
                await asyncio.sleep(0.02)
        return found

    async def pid_of(self, job_id: str, attempt: int = 1) -> int:
        """Wait until an attempt of a job has told its process id; return it."""

        async def told() -> int:
            last = (await self.job(job_id)).last
            return int(last.progress) if last is not None and last.number >= attempt and last.progress else 0

        return int(await self.until(told))

    async def let_go(self, job_id: str) -> None:
        """Let a `waits` job end."""
        await self.app.enqueue("pid", id=f"go-{job_id}", delay=3_600)

    @asynccontextmanager
    async def supervised(
        self, processes: int = 1, *, silent_limit: float = 600.0, concurrency: int = 10, **options: Any
    ) -> AsyncIterator[Supervisor]:
        """Run worker processes while in the block, then drain them and see that they ended well."""
        worker = WorkerOptions(queues={"default": concurrency}, **options)
        plan = Supervision(app=fleet.NAME, processes=processes, options=worker, silent_limit=silent_limit)
        supervisor = Supervisor(self.store, plan)
        async with asyncio.timeout(4 * LIMIT), asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            yield supervisor
            supervisor.stop()
            assert await running is ExitCode.DRAINED
        assert not supervisor.pids


@pytest.fixture
async def the_fleet(socket_path: str) -> AsyncIterator[Fleet]:
    async with fleet.make_app(socket_path) as app:
        store = await app.open()
        assert isinstance(store, SocketStore)
        yield Fleet(app, store)
