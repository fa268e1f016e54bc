"""A program that works until it is told to stop: `python -m tests.app.runner_program`."""

import asyncio
import sys
from collections.abc import AsyncIterator

from holdfast import Context, Holdfast, injected

app = Holdfast()


@app.lifespan
async def life(holdfast: Holdfast) -> AsyncIterator[None]:
    """Enqueue the jobs when the worker's process begins, and say when it ends."""
    await slow.enqueue()
    yield
    print("lifespan ended", flush=True)


@app.task("slow", queue="mail")
async def slow(*, ctx: Context = injected) -> None:
    print(f"started on {type(asyncio.get_running_loop()).__module__}", flush=True)
    # Let the parent's signal come first; the drain then waits for this line.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print("finished", flush=True)


if __name__ == "__main__":
    code = app.run(queues={"mail": 5}, grace=60.0)
    print(f"stopped with code {code}", flush=True)
    sys.exit(code)
