"""A web app with a loop, for uvicorn: a worker runs in its lifespan, each request waits for the result of a job."""

import json
from contextlib import AsyncExitStack
from typing import Any

from holdfast import Holdfast

jobs = Holdfast()


@jobs.task("double")
async def double(n: int) -> int:
    return n * 2


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve the lifespan and requests."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    handle = await double.enqueue(int(scope["path"].strip("/")))
    body = json.dumps({"result": await handle.result(timeout=60)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Any, send: Any) -> None:
    """Run the worker between start and end."""
    async with AsyncExitStack() as stack:
        assert (await receive())["type"] == "lifespan.startup"
        await stack.enter_async_context(jobs)
        worker = await stack.enter_async_context(jobs.worker(queues={"default": 4}))
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
    print(f"worker stopped with {worker.busy} busy", flush=True)
    await send({"type": "lifespan.shutdown.complete"})
