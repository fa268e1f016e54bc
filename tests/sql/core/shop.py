"""The app of whole worker processes on a database. What its handlers did stands in a file that all of them append to."""

import asyncio
import ctypes
import os
import re
import resource
import signal
import time
from pathlib import Path

from holdfast import Context, Holdfast

app = Holdfast(os.environ.get("HOLDFAST_TEST_STORE", "memory:"))
NAME = "tests.sql.core.shop:app"
EFFECTS = "HOLDFAST_TEST_EFFECTS"


def note(*words: object) -> None:
    """Append a line in one write, so that lines of several processes never mix."""
    line = " ".join(map(str, words)) + "\n"
    file = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@app.task("shop.note", queue="work")
async def noted(number: int) -> int:
    """Say that it ran."""
    note("ran", number, os.getpid())
    return number


@app.task("shop.slow", queue="work", max_attempts=20)
async def slow(number: int, *, ctx: Context) -> int:
    """Say that it began, take a moment, and say that it is done."""
    note("began", number, ctx.attempt, os.getpid())
    await asyncio.sleep(0.005)
    note("done", number, ctx.attempt, os.getpid())
    return number


@app.task("shop.alone", queue="alone")
async def alone(line: str, number: int) -> None:
    """Say when it ran: no other of its line may run then."""
    begun = time.monotonic()
    await asyncio.sleep(0.002)
    note("span", line, number, begun, time.monotonic())


@app.task("shop.hog", queue="work", max_attempts=5)
async def hog(seconds: float, *, ctx: Context) -> int:
    """Hold the interpreter's lock in one call for at least `seconds`, so that no thread of this process can run."""
    note("hogs", ctx.attempt, os.getpid())
    length, took = 18, 0.0
    while took < seconds:
        length += 1
        begun = time.monotonic()
        re.match("(a+)+b", "a" * length)  # twice as long for each further letter
        took = time.monotonic() - begun
    return ctx.attempt


@app.task("shop.die", queue="work")
async def die(kind: str, *, ctx: Context) -> None:
    """End this process."""
    note("dies", kind, ctx.attempt, os.getpid())
    if kind == "exit":
        os._exit(3)
    if kind == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fault":
        ctypes.string_at(0)
    # As much memory as there is: the system ends a process that asks for more than it may have.
    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    try:
        hoard = [bytearray(1 << 24) for _ in range(1_000)]
    except MemoryError:
        os.abort()  # what an allocator does that has no way to say no
    raise AssertionError(f"{len(hoard)} pieces of memory were to be had")


@app.task("shop.gate", queue="work")
async def gate(opened: str, *, ctx: Context) -> int:
    """Say that it has begun, and wait until the file `opened` is there."""
    note("waits", ctx.attempt, os.getpid())
    while not Path(opened).exists():  # noqa: ASYNC110 - a file is what another process can make
        await asyncio.sleep(0.01)
    return ctx.attempt
