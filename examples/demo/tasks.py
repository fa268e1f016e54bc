"""The app of the demo: one task per executor, and a spoilsport."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from examples.demo.work import pack
from holdfast import Context, Holdfast

app = Holdfast(os.environ.get("HOLDFAST_URL", "memory:"))

#: Seconds to wait before the second and the later tries.
SOON = (0.2, 0.4)


@app.task("pack.async", queue="light", max_attempts=6, backoff=SOON)
async def pack_async(ctx: Context, source: str, folder: str, method: str, *, stumbles: bool = False) -> str:
    """Pack in a thread that the handler waits for: the loop stays free for the others."""
    if stumbles and ctx.attempt == 1:
        raise ConnectionError("the first try of this job always fails")
    ctx.progress({"step": "packing"})
    return await asyncio.to_thread(pack, Path(source), Path(folder), method)


@app.task("pack.thread", queue="light", max_attempts=6, backoff=SOON)
def pack_in_thread(ctx: Context, source: str, folder: str, method: str, *, stumbles: bool = False) -> str:
    """Pack in a thread of the worker."""
    if stumbles and ctx.attempt == 1:
        raise TimeoutError("the first try of this job always fails")
    return pack(Path(source), Path(folder), method)


@app.task("pack.process", queue="heavy", executor="process", max_attempts=6, backoff=SOON)
def pack_in_process(source: str, folder: str, method: str) -> str:
    """Pack in a child process: whatever happens in it, the worker lives on."""
    return pack(Path(source), Path(folder), method)


@app.task("pack.broken", queue="light", max_attempts=3, backoff=SOON)
async def pack_broken(source: str) -> str:
    """Fail always: after its attempts are spent the job is a dead letter, kept for a person to look at."""
    raise ValueError(f"cannot pack {Path(source).name}: unsupported format")
