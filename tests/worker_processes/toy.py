"""A small app for child processes: a real implementation of the ports that a child knows, with one task per mishap."""

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from holdfast.job.commands import Claim, Ending, ErrorInfo, Failed, Succeeded
from holdfast.job.content import encode_result, safe_str
from holdfast.job.model import Job
from holdfast.worker.context import Context, current
from holdfast.worker.program import Executor, ProcessCall

HERE = "tests.worker_processes.toy:app"


def call(task: str, *, app: str = HERE, job_id: str = "job-1", **arguments: Any) -> ProcessCall:
    """Return the call of a toy task, as its program would."""
    job = Job(seq=1, id=job_id, task=task, payload=msgspec.json.encode(arguments), attempt=1, token=7)
    return ProcessCall(app, task, msgspec.msgpack.encode(job), job.token, job.attempt)


class ToyProgram:
    executor = Executor.PROCESS
    cancel_grace = 5.0

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def time_limit(self, claim: Claim[Job]) -> float | None:
        return claim.item.timeout

    def bind(self, claim: Claim[Job], ctx: Context) -> Callable[[], Any]:
        arguments = msgspec.json.decode(claim.item.payload or b"{}")
        return lambda: self._function(**arguments)

    def process_call(self, claim: Claim[Job]) -> ProcessCall:
        return ProcessCall(HERE, claim.task, msgspec.msgpack.encode(claim.item), claim.token, claim.attempt)

    def ending(self, value: object) -> Ending:
        try:
            return Succeeded(encode_result(value, limit=100 * 1024 * 1024))
        except Exception as error:  # noqa: BLE001 - the test looks at what it becomes
            return self.failed(error)

    def failed(self, error: BaseException) -> Ending:
        return Failed(ErrorInfo(type(error).__name__, safe_str(error)))


class ToyApp:
    def __init__(self) -> None:
        self._programs: dict[str, ToyProgram] = {}

    @property
    def programs(self) -> "ToyApp":
        return self

    def get(self, task: str) -> ToyProgram | None:
        return self._programs.get(task)

    def aliases(self) -> Iterable[str]:
        return self._programs

    @asynccontextmanager
    async def lifespan_context(self) -> AsyncIterator[dict[str, int]]:
        yield {"pid": os.getpid()}

    def task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self._programs[function.__name__] = ToyProgram(function)
        return function


app = ToyApp()
#: The same tasks under another name.
same = app


def tell(*pids: int) -> None:
    """Tell the test, by a log line, that the handler has come so far."""
    current().log(" ".join(map(str, pids)))


# --- behaves -------------------------------------------------------------------------------------------------------


@app.task
def whoami() -> dict[str, Any]:
    ctx = current()
    return {"pid": os.getpid(), "job": ctx.id, "token": ctx.token, "state": ctx.state, "left": ctx.time_left}


@app.task
async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@app.task
async def reports() -> str:
    ctx = current()
    ctx.progress({"done": 1}, update={"seen": True})
    ctx.log("half way", "debug")
    return "told"


@app.task
def raises_one() -> None:
    raise ValueError("no such account")


_seen: ContextVar[str] = ContextVar("seen", default="nothing")


@app.task
async def remembers(word: str) -> str:
    before = _seen.get()
    _seen.set(word)
    return before


@app.task
def runs_own_loop() -> int:
    async def half() -> int:
        return 21

    return 2 * asyncio.run(half())


# --- kills its process ---------------------------------------------------------------------------------------------


@app.task
def kills_itself(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@app.task
def reads_address_zero() -> None:
    ctypes.string_at(0)


@app.task
def exits(code: int) -> None:
    os._exit(code)


@app.task
def exits_politely() -> None:
    sys.exit(4)


@app.task
async def exits_in_the_loop() -> None:
    sys.exit(4)


@app.task
def runs_out_of_memory() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (512 * 1024 * 1024, resource.RLIM_INFINITY))
    return len(bytearray(4 * 1024**3))


@app.task
def aborts_without_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (64 * 1024 * 1024, resource.RLIM_INFINITY))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    if not libc.malloc(ctypes.c_size_t(1024**3)):
        libc.abort()


# --- does not end --------------------------------------------------------------------------------------------------


@app.task
def sleeps() -> None:
    tell(os.getpid())
    time.sleep(600)


@app.task
async def waits() -> str:
    tell()
    await asyncio.sleep(600)
    return "never"


@app.task
async def finishes_when_cancelled() -> str:
    tell()
    return await current().cancel_wait()


@app.task
async def swallows_cancels() -> None:
    tell(os.getpid())
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue


@app.task
def looks_at_the_context() -> str:
    tell()
    ctx = current()
    while not ctx.cancelled:
        time.sleep(0.001)
    return str(ctx.cancel_reason)


@app.task
def ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(os.getpid())
    while True:
        time.sleep(600)


@app.task
def holds_the_interpreter() -> None:
    tell(os.getpid())
    # PyDLL keeps the lock of the interpreter while the C function runs.
    ctypes.PyDLL(None).sleep(600)


# --- disturbs ------------------------------------------------------------------------------------------------------


@app.task
def prints(text: str) -> str:
    print(text)
    os.write(1, text.encode() + b"\n")
    sys.stderr.write(text + "\n")
    return "printed"


@app.task
def closes_everything() -> None:
    os.closerange(3, 256)


@app.task
def writes_garbage_to_every_socket() -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(600)


@app.task
def starts_a_grandchild() -> None:
    grandchild = subprocess.Popen(["sleep", "600"])
    tell(os.getpid(), grandchild.pid)
    time.sleep(600)


@app.task
def forks_and_dies() -> None:
    grandchild = os.fork()
    if grandchild == 0:
        time.sleep(600)
    tell(os.getpid(), grandchild)
    os._exit(9)


@app.task
def forks_and_both_return() -> str:
    grandchild = os.fork()
    if grandchild == 0:
        return "from the fork"
    os.waitpid(grandchild, 0)
    return "from the original"


@app.task
def starts_a_program_that_keeps_descriptors() -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"],
        capture_output=True,
        check=True,
        close_fds=False,
    )
    return done.stdout.decode().strip()


@app.task
def returns_what_no_json_carries() -> object:
    return object()


@app.task
def returns_much(size: int) -> str:
    return "x" * size


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@app.task
def raises_without_words() -> None:
    raise Unspeakable


@app.task
def eats_memory(size: int) -> int:
    _eaten.append(bytearray(size))
    return os.getpid()


_eaten: list[bytearray] = []


@app.task
async def shields_itself() -> str:
    tell()
    reason = asyncio.ensure_future(current().cancel_wait())
    try:
        await asyncio.shield(reason)
    except asyncio.CancelledError:
        return await reason
    return reason.result()


@app.task
async def waits_and_tells() -> None:
    tell(os.getpid())
    await asyncio.sleep(600)
