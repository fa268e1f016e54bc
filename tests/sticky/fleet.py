"""A node or a database, a Redis and worker processes, all real, all ended with the test."""

import asyncio
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from holdfast import Holdfast
from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.model import Job
from tests.node.processes import LIMIT, ROOT, NodeProcess, environment, eventually
from tests.sticky.chat import LEASE, SERVICE, make_app
from tests.support.servers import redis

#: Seconds within which everything must have ended; nothing waits so long unless it is broken.
PATIENCE: Final = 120.0


class Pods:
    """The parts; use it in `with`. store: the URL of a database with our tables; without it a node is started."""

    node: NodeProcess

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 3,
        numbered: bool = False,
        on_lost: str = "rebind",
        store: str = "",
        lease: float = LEASE,
    ) -> None:
        redis.need()
        self._store, self._lease = store, lease
        self._folder, self._workers, self._numbered, self._on_lost = folder, workers, numbered, on_lost
        self._stack = ExitStack()
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(redis.RedisServer(durable=True))
            if not self._store:
                self.node = NodeProcess(self._folder / "data", "--no-http", app=None)
                stack.callback(self.node.kill)
            stack.callback(self._end)
            for number in range(self._workers):
                self.start(number)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def app(self) -> Holdfast:
        """A producer."""
        return make_app(self.url, self.redis.url, on_lost=self._on_lost)

    @property
    def url(self) -> str:
        """Of the store."""
        return self._store or f"journal:{self.node.data}"

    # --- workers

    def start(self, number: int) -> subprocess.Popen[str]:
        """Start a worker process, and wait until it has begun."""
        given = (str(number) if self._numbered else "-", self._on_lost, str(self._lease))
        log = (self._folder / f"worker-{number}.log").open("a")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.sticky.chat", self.url, self.redis.url, *given],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes[number] = process
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", self.log(number)
        return process

    def log(self, number: int) -> str:
        """What a worker has logged."""
        return (self._folder / f"worker-{number}.log").read_text()

    def kill(self, number: int) -> None:
        """End a worker without a word."""
        process = self.processes.pop(number)
        process.kill()
        _reap(process)

    def stop(self, number: int) -> int:
        """Ask a worker to drain, and wait."""
        process = self.processes.pop(number)
        process.send_signal(signal.SIGTERM)
        return _reap(process)

    def freeze(self, number: int) -> None:
        """Stop a worker in its tracks."""
        self.processes[number].send_signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let a frozen worker go on."""
        self.processes[number].send_signal(signal.SIGCONT)

    def number_of(self, pid: int) -> int:
        """Which worker a process is."""
        return next(number for number, process in self.processes.items() if process.pid == pid)

    def _end(self) -> None:
        for number in list(self.processes):
            self.thaw(number)
            self.kill(number)


def _reap(process: subprocess.Popen[str]) -> int:
    code = process.wait(LIMIT)
    if process.stdout is not None:
        process.stdout.close()
    return code


def migrate(url: str) -> None:
    """Make the tables of a store."""
    with ThreadPoolExecutor(1) as thread:  # a loop of its own: the test's own one may run
        thread.submit(lambda: asyncio.run(make_store(url, clock=SystemClock()).migrate())).result()


async def here(app: Holdfast, count: int) -> None:
    """Wait until so many pods have published themselves."""
    router = await app.stickies.router()
    async with asyncio.timeout(PATIENCE):
        while len(await router.executor.get_service_state(router.options.namespace, SERVICE)) != count:
            await app.open()


async def send(app: Holdfast, numbers: Iterable[int], keys: Iterable[str], **arguments: Any) -> list[str]:
    """Send a message of each number to each key; return the ids."""
    say = app.tasks.get("say")
    assert say is not None
    keys = list(keys)
    handles = []
    for number in numbers:
        for key in keys:
            handles.append(await say.using(key=key).enqueue(number=number, **arguments))  # noqa: PERF401 - in order
    return [handle.id for handle in handles]


async def results(app: Holdfast, ids: list[str]) -> list[dict[str, Any]]:
    """Wait until all have ended; return what they returned. None may have failed."""
    store = await app.open()
    ended: list[Job] = await store.finished(ids, PATIENCE)
    assert len(ended) == len(ids), f"{len(ids) - len(ended)} jobs have not ended"
    assert {job.state.value for job in ended} == {"succeeded"}, [job.error for job in ended if job.error]
    return [msgspec.json.decode(job.result or b"null") for job in ended]


def check_owners(told: list[dict[str, Any]]) -> None:
    """No key ran in two processes under one epoch, and a state saw its messages one by one (invariant I18)."""
    owners: dict[tuple[str, int], set[int]] = defaultdict(set)
    for one in told:
        owners[one["key"], one["epoch"]].add(one["pid"])
    assert all(len(pids) == 1 for pids in owners.values()), owners
    epochs: dict[str, list[int]] = defaultdict(list)
    for one in sorted(told, key=lambda one: one["number"]):
        epochs[one["key"]].append(one["epoch"])
    assert all(found == sorted(found) for found in epochs.values()), epochs


__all__ = ["Pods", "check_owners", "eventually", "here", "migrate", "results", "send"]
