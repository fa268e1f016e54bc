"""A store that several processes share, for tests: a MemoryStore behind a unix socket. Nothing survives the server.

The server is a process of its own, so that killing workers can not harm it:

    with served(path): ...                                     # path of the socket; starts and ends the server
    python -m tests.support.socket_store PATH                  # the same by hand; says "ready" on its output

A client is the whole Store port, one instance per event loop at a time; it opens on first use in whatever loop it is:

    app = Holdfast(store=SocketStore(path))

One frame per request and per answer, as in `holdfast.worker.process.frames` (a length, then msgpack); requests carry a
number, and answers come in any order, so that a waiting `wait` holds up nobody. The arguments and answers of each method
are typed in `METHODS`. Errors come back as what they were, with their fields. The heartbeat's thread gets a client of its
own from `beat_source()`.
"""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from holdfast import errors
from holdfast.clock import SystemClock
from holdfast.job import commands as c
from holdfast.job.model import Definition, Instance, Job, NewJob, Operation, Queue, Schedule, WorkerConfig
from holdfast.store import Capabilities
from holdfast.stores.memory import MemoryStore
from holdfast.worker.process.frames import Unpacker, pack


class Method(NamedTuple):
    """The types of a method's arguments, by place, and of its answer."""

    arguments: Any
    answer: Any


METHODS: dict[str, Method] = {
    # Source
    "claim": Method(tuple[c.Want], c.Claims[Job]),
    "settle": Method(tuple[list[c.Settlement[Job]]], list[c.Settled]),
    "progress": Method(tuple[list[c.Progress[Job]]], list[c.Settled]),
    "heartbeat": Method(tuple[c.Beat], c.Signals),
    "rescue": Method(tuple[int], c.Rescued),
    "instance_died": Method(tuple[c.InstanceDied], int),
    "wait": Method(tuple[list[str], int, float], bool),
    # Store
    "migrate": Method(tuple[()], list[str]),
    "enqueue": Method(tuple[list[NewJob], c.OnDuplicate], list[c.Enqueued]),
    "control": Method(tuple[c.Order], c.Ordered),
    "operations": Method(tuple[()], list[Operation]),
    "cancel_operation": Method(tuple[str, str], Operation),
    "queues": Method(tuple[()], list[Queue]),
    "change_queue": Method(tuple[c.ChangeQueue], Queue),
    "delete_queue": Method(tuple[str, str], None),
    "define": Method(tuple[list[c.Define]], list[Definition]),
    "definition": Method(tuple[str], Definition),
    "definitions": Method(tuple[c.DefinitionFilter], list[Definition]),
    "change_definition": Method(tuple[c.ChangeDefinition], Definition),
    "delete_definition": Method(tuple[str, str], None),
    "save_schedule": Method(tuple[Schedule, int | None], Schedule),
    "schedules": Method(tuple[bool], list[Schedule]),
    "fire_schedule": Method(tuple[str, float, list[NewJob], float | None], bool),
    "instances": Method(tuple[()], list[Instance]),
    "configure_worker": Method(tuple[WorkerConfig], WorkerConfig),
    "workers": Method(tuple[()], list[WorkerConfig]),
    "delete_worker": Method(tuple[str], None),
    "jobs": Method(tuple[list[str]], list[Job | None]),
    "find": Method(tuple[c.JobFilter, c.Page], c.JobPage),
    "count": Method(tuple[c.JobFilter], int),
    "stats": Method(tuple[()], c.Stats),
    "finished": Method(tuple[list[str], float], list[Job]),
}
#: Methods whose last argument is given by keyword.
BY_KEYWORD = {"enqueue": "on_duplicate", "schedules": "deleted", "save_schedule": "expect"}


class Request(msgspec.Struct, frozen=True):
    number: int
    method: str
    arguments: bytes  # msgpack, as METHODS says


class Answer(msgspec.Struct, frozen=True):
    number: int
    answer: bytes = b""
    error: str = ""  # the class
    text: str = ""
    fields: bytes = b""  # JSON


# --- server --------------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def serve(self, path: str) -> None:
        await self._store.open()
        server = await asyncio.start_unix_server(self._connected, path)
        print("ready", flush=True)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: Unpacker[Request] = Unpacker(Request)
        running: set[asyncio.Task[None]] = set()
        while (request := await requests.from_stream(reader)) is not None:
            task = asyncio.create_task(self._answer(request, writer))
            running.add(task)
            task.add_done_callback(running.discard)
        for task in running:
            task.cancel()
        writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            answer = Answer(request.number, msgspec.msgpack.encode(await self._call(request)))
        except Exception as error:  # noqa: BLE001 - the client raises it
            fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
            answer = Answer(request.number, b"", type(error).__name__, str(error), msgspec.json.encode(fields))
        if not writer.is_closing():
            writer.write(pack(answer))

    async def _call(self, request: Request) -> Any:
        given = msgspec.msgpack.decode(request.arguments, type=METHODS[request.method].arguments)
        keyword = BY_KEYWORD.get(request.method)
        call = getattr(self._store, request.method)
        return await (call(*given) if keyword is None else call(*given[:-1], **{keyword: given[-1]}))


# --- client --------------------------------------------------------------------------------------------------------


class _Connection:
    """One connection, in one loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.loop = asyncio.get_running_loop()
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._reading = asyncio.create_task(self._read(), name="socket-store")

    async def ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if self._reading.done():
            raise errors.StoreUnavailable("the test store's server is gone")
        number = next(self._numbers)
        self._waiting[number] = self.loop.create_future()
        try:
            self._writer.write(pack(Request(number, method, msgspec.msgpack.encode(arguments))))
            answer = await self._waiting[number]
        finally:
            del self._waiting[number]
        if answer.error:
            raise _rebuilt(answer)
        return msgspec.msgpack.decode(answer.answer, type=METHODS[method].answer)

    async def _read(self) -> None:
        answers: Unpacker[Answer] = Unpacker(Answer)
        while (answer := await answers.from_stream(self._reader)) is not None:
            waiter = self._waiting.get(answer.number)
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(errors.OutcomeUnknown("the test store's server went away before it answered"))

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        self._writer.close()


def _rebuilt(answer: Answer) -> Exception:
    kind = getattr(errors, answer.error, None)
    if kind is None:
        return RuntimeError(f"{answer.error}: {answer.text}")
    error: Exception = kind.__new__(kind)
    error.args = (answer.text,)
    vars(error).update(msgspec.json.decode(answer.fields))
    return error


class SocketStore:
    """The Store port over the socket at `path`."""

    capabilities = Capabilities(durable=False, push=True, many_processes=True, transactional=False)

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._connection: _Connection | None = None
        self.now = SystemClock().now

    async def open(self) -> None:
        await self._connected()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.loop is asyncio.get_running_loop():
            await connection.close()

    def beat_source(self) -> "SocketStore":
        return SocketStore(self._path)

    async def _connected(self) -> _Connection:
        connection = self._connection
        if connection is None or connection.loop is not asyncio.get_running_loop():
            try:
                streams = await asyncio.open_unix_connection(self._path)
            except OSError as error:
                raise errors.StoreUnavailable(f"the test store's server does not answer: {error}") from error
            connection = self._connection = _Connection(*streams)
        return connection

    async def _ask(self, method: str, *arguments: Any) -> Any:
        return await (await self._connected()).ask(method, arguments)

    async def enqueue(self, jobs: Any, *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE) -> Any:
        return await self._ask("enqueue", jobs, on_duplicate)

    async def schedules(self, *, deleted: bool = False) -> Any:
        return await self._ask("schedules", deleted)

    async def save_schedule(self, schedule: Any, *, expect: int | None = None) -> Any:
        return await self._ask("save_schedule", schedule, expect)

    async def rescue(self, limit: int = 1_000) -> Any:
        return await self._ask("rescue", limit)

    async def cancel_operation(self, operation_id: str, who: str = "") -> Any:
        return await self._ask("cancel_operation", operation_id, who)

    async def delete_queue(self, name: str, who: str = "") -> Any:
        return await self._ask("delete_queue", name, who)

    async def delete_definition(self, alias_or_id: str, who: str = "") -> Any:
        return await self._ask("delete_definition", alias_or_id, who)

    def __getattr__(self, name: str) -> Any:
        # All other methods take their arguments by place, as the port declares them.
        if name not in METHODS:
            raise AttributeError(name)

        async def call(*arguments: Any) -> Any:
            return await self._ask(name, *arguments)

        return call


@contextmanager
def served(path: str | Path) -> Iterator[str]:
    """Run a server on the unix socket `path` in a process of its own; give the path once it is ready."""
    command = [sys.executable, "-m", "tests.support.socket_store", str(path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=root) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != "ready\n":
                raise RuntimeError("the test store's server did not start; see its output above")
            yield str(path)
        finally:
            server.kill()


if __name__ == "__main__":
    asyncio.run(Server(MemoryStore()).serve(sys.argv[1]))
