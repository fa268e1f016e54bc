"""An app in a module of its own, as child processes and servers import it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

from holdfast import Context, Holdfast, injected

app = Holdfast()
errors: list[tuple[str, str | None, str]] = []


@app.lifespan
async def life() -> AsyncIterator[dict[str, Any]]:
    """Tell handlers in which process they are."""
    yield {"pid": os.getpid()}


@app.on_error
def remember(queue: str, job: Any, error: BaseException) -> None:
    """Keep what was told."""
    errors.append((queue, job.task if job is not None else None, type(error).__name__))


@app.task("where.async")
async def where_async(n: int, *, ctx: Context = injected) -> dict[str, Any]:
    return {"n": n, "pid": os.getpid(), "state": ctx.state, "thread": threading.current_thread().name}


@app.task("where.thread")
def where_thread(n: int, *, ctx: Context = injected) -> dict[str, Any]:
    return {"n": n, "pid": os.getpid(), "state": ctx.state, "thread": threading.current_thread().name}


@app.task("where.process", executor="process")
def where_process(n: int, *, ctx: Context = injected) -> dict[str, Any]:
    ctx.progress({"half": True})
    return {"n": n, "pid": os.getpid(), "state": ctx.state, "thread": threading.current_thread().name}


@app.task("where.process.async", executor="process")
async def where_process_async(n: int) -> int:
    await asyncio.sleep(0)
    return n


@app.task("fail.async", max_attempts=2, backoff=[0])
async def fail_async() -> None:
    raise ValueError("async")


@app.task("fail.thread", max_attempts=2, backoff=[0])
def fail_thread() -> None:
    raise KeyError("thread")


@app.task("fail.process", executor="process", max_attempts=2, backoff=[0])
def fail_process() -> None:
    raise OSError("process")


@app.task("enqueue.thread")
def enqueue_in_thread(n: int) -> str:
    """A plain handler enqueues through `.sync`, and waits for what it enqueued."""
    return str(where_async.sync.enqueue(n).sync.result(timeout="10s")["n"])


@app.task("enqueue.process", executor="process", max_attempts=1)
def enqueue_in_process() -> None:
    where_async.sync.enqueue(1)
