"""The app that the tests of whole worker processes run, on the store behind the socket that the environment names."""

import asyncio
import os
import signal
import sys
import time

from holdfast.app.holdfast import Holdfast
from holdfast.worker.context import Context
from tests.support.socket_store import SocketStore

SOCKET = "HOLDFAST_TEST_SOCKET"
NAME = "tests.worker_processes.fleet:app"


def make_app(path: str) -> Holdfast:
    app = Holdfast(store=SocketStore(path))

    @app.task("pid")
    async def pid() -> int:
        return os.getpid()

    @app.task("killer", max_attempts=10)
    async def killer(ctx: Context) -> None:
        while not await all_are_here(ctx):  # noqa: ASYNC110 - the store of another process has no event
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    async def all_are_here(ctx: Context) -> bool:
        """Whether the first killing may happen: every job that came with the killer runs."""
        jobs = await (await app.open()).stats()
        return ctx.attempt > 1 or jobs.queues["default"]["queued"] == 0

    @app.task("innocent", max_attempts=10)
    async def innocent(ctx: Context) -> str:
        if ctx.attempt == 1:
            await asyncio.sleep(600)
        return "well"

    @app.task("kills.child", executor="process", max_attempts=10)
    def kills_child() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task("exits", max_attempts=2)
    async def exits(code: int) -> None:
        os._exit(code)

    # The loop is to be blocked by these two.
    @app.task("blocks", timeout="1s", max_attempts=1)
    async def blocks(seconds: float) -> str:
        time.sleep(seconds)
        return "unblocked"

    @app.task("blocks.without_limit")
    async def blocks_without_limit(seconds: float, ctx: Context) -> int:
        time.sleep(seconds)
        return ctx.attempt

    @app.task("swallows", timeout="0.1s", cancel_grace="0.1s", max_attempts=1)
    async def swallows() -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    @app.task("waits", max_attempts=1)
    async def waits(ctx: Context) -> str:
        """Run until it is cancelled, or until somebody lets it go."""
        ctx.progress(os.getpid())
        while not await let_go(ctx.job.id):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        return "let go"

    async def let_go(job_id: str) -> bool:
        return await (await app.open()).jobs([f"go-{job_id}"]) != [None]

    @app.task("first.freezes")
    async def first_freezes(ctx: Context) -> int:
        if ctx.attempt == 1:
            ctx.progress(os.getpid())
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGSTOP)
        return ctx.attempt

    @app.task("waits.in_child", executor="process")
    def waits_in_child(ctx: Context) -> None:
        ctx.progress(os.getpid())
        while True:
            ctx.check()
            time.sleep(0.01)

    return app


app = make_app(os.environ.get(SOCKET, "/nonexistent"))

if __name__ == "__main__":
    sys.exit("import me")
