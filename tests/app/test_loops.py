"""One store per process and loop: loops that follow each other, threads without one, forks, and real servers."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from holdfast import Holdfast, JobHandle, Task
from holdfast.errors import StoreClosed, UsageError
from holdfast.stores.memory import MemoryStore
from tests.features import feature

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plain() -> Holdfast:
    """An app that no fixture has opened."""
    return Holdfast()


@pytest.fixture
def add(plain: Holdfast) -> Task[[int, int], int]:
    @plain.task("add")
    def add(a: int, b: int) -> int:
        return a + b

    return add


def test_nothing_is_opened_before_the_first_use(plain: Holdfast, add: Task[[int, int], int]) -> None:
    threads = threading.active_count()
    assert add.job(1, 2).task == "add"
    assert add(1, 2) == 3
    assert threading.active_count() == threads


def test_asyncio_run_twice_finds_the_jobs_of_the_first_run(plain: Holdfast, add: Task[[int, int], int]) -> None:
    async def enqueue() -> JobHandle[int]:
        return await add.enqueue(1, 2)

    async def work(handle: JobHandle[int]) -> int:
        await plain.work_once()
        return await handle.result(timeout=60)

    handle = asyncio.run(enqueue())
    assert asyncio.run(work(handle)) == 3
    assert asyncio.run(plain.jobs.count()) == 1


def test_the_store_is_closed_with_its_loop() -> None:
    store = MemoryStore()
    asyncio.run(_open(Holdfast(store=store)))
    with pytest.raises(StoreClosed):
        asyncio.run(store.rescue())


async def _open(app: Holdfast) -> None:
    await app.open()


async def test_closing_twice_is_fine_and_the_next_use_opens_again(plain: Holdfast, add: Task[[int, int], int]) -> None:
    await plain.close()
    async with plain:
        await add.enqueue(1, 1)
    await plain.close()
    assert await plain.jobs.count() == 1
    await plain.close()


def test_a_second_live_loop_is_told_what_to_do(plain: Holdfast) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(plain.open())
        with pytest.raises(
            UsageError, match=r"open in another event loop of this process that still lives. Expected one loop"
        ):
            second.run_until_complete(plain.open())
        first.run_until_complete(plain.close())
        second.run_until_complete(plain.open())
        second.run_until_complete(plain.close())
    finally:
        first.close()
        second.close()


class BrokenOnce(MemoryStore):
    """A store whose first open fails."""

    broken = True

    async def open(self) -> None:
        if self.broken:
            self.broken = False
            raise OSError("the disk is away")
        await super().open()


def test_a_store_that_could_not_be_opened_may_be_opened_by_another_loop() -> None:
    app = Holdfast(store=BrokenOnce())
    with pytest.raises(OSError, match="the disk is away"):
        app.sync(app.jobs.count())
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert first.run_until_complete(app.jobs.count()) == 0
        first.run_until_complete(app.close())
        assert second.run_until_complete(app.jobs.count()) == 0
        second.run_until_complete(app.close())
    finally:
        first.close()
        second.close()


async def test_many_first_uses_at_once_open_one_store(plain: Holdfast) -> None:
    stores = await asyncio.gather(*(plain.open() for _ in range(20)))
    assert len(set(map(id, stores))) == 1
    await plain.close()


# --- code without a loop -------------------------------------------------------------------------------------------


def test_code_without_a_loop_enqueues_waits_and_steers(plain: Holdfast, add: Task[[int, int], int]) -> None:
    handle = add.sync.enqueue(1, 2)
    [second, _] = add.sync.using(priority=5).enqueue_many([(1, 1), {"a": 2, "b": 2}])
    assert plain.sync.enqueue("add", {"a": 5, "b": 5}).sync.get().payload == b'{"a":5,"b":5}'
    second.sync.cancel("not this one")
    second.sync.retry()
    assert plain.sync(plain.work_once()).total == 4
    assert handle.sync.result(timeout=60) == 3
    assert plain.sync(plain.jobs.count(states=["succeeded"])) == 4
    plain.sync.close()


async def test_sync_in_a_running_loop_names_the_async_form(plain: Holdfast, add: Task[[int, int], int]) -> None:
    with pytest.raises(UsageError, match=r"Use the async form: await ….enqueue\(…\)"):
        add.sync.enqueue(1, 2)
    with pytest.raises(UsageError, match=r"await ….count\(…\). From a helper without await, call it in a thread"):
        plain.sync(plain.jobs.count())
    handle = await add.enqueue(1, 2)
    with pytest.raises(UsageError, match=r"await ….result\(…\)"):
        handle.sync.result(1)
    await plain.close()


def test_all_threads_share_one_portal(plain: Holdfast, add: Task[[int, int], int]) -> None:
    before = {thread.name for thread in threading.enumerate()}
    workers = [threading.Thread(target=add.sync.enqueue, args=(n, n)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert plain.sync(plain.jobs.count()) == 8
    new = [thread.name for thread in threading.enumerate() if thread.name not in before]
    assert new in (["holdfast-sync"], [])
    plain.sync.close()


async def test_other_threads_use_the_loop_that_has_the_store(plain: Holdfast, add: Task[[int, int], int]) -> None:
    await plain.open()
    handle = await asyncio.to_thread(add.sync.enqueue, 1, 2)
    assert (await handle.get()).id == handle.id
    assert await plain.jobs.count() == 1
    await plain.close()


def test_the_portal_gives_way_to_a_loop_and_takes_over_again(plain: Holdfast, add: Task[[int, int], int]) -> None:
    first = add.sync.enqueue(1, 2)

    async def work() -> int:
        await plain.work_once()
        return await first.result(timeout=60)

    assert asyncio.run(work()) == 3
    second = add.sync.enqueue(2, 2)
    assert asyncio.run(plain.jobs.count()) == 2
    assert second.sync.get().payload == b'{"a":2,"b":2}'
    plain.sync.close()


def test_an_error_of_the_work_comes_out_of_sync_as_it_is(plain: Holdfast) -> None:
    async def time_out() -> None:
        raise TimeoutError("of the work itself")

    with pytest.raises(TimeoutError, match="of the work itself"):
        plain.sync(time_out())


def test_the_child_of_a_fork_opens_everything_anew(plain: Holdfast, add: Task[[int, int], int]) -> None:
    add.sync.enqueue(1, 2)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for a thread of its parent's would wait for ever
        try:
            empty = plain.sync(plain.jobs.count())
            handle = add.sync.enqueue(3, 4)
            plain.sync(plain.work_once())
            os.write(writing, json.dumps([empty, handle.sync.result(timeout=60)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert json.loads(told) == [0, 7]
    assert plain.sync(plain.jobs.count()) == 1
    plain.sync.close()


# --- servers and programs ------------------------------------------------------------------------------------------


@contextmanager
def running(*command: str, until: str, stdin: int | None = None) -> Iterator[tuple["subprocess.Popen[str]", IO[str]]]:
    """Start a program and wait until it prints `until`; give it, and what it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        stdin=stdin,
    )
    assert process.stdout is not None
    try:
        _read_until(process.stdout, until)
        yield process, process.stdout
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stdin):
            if stream is not None:
                stream.close()


def _read_until(output: IO[str], words: str) -> list[str]:
    seen = []
    for line in output:
        seen.append(line.rstrip())
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was not printed:\n" + "\n".join(seen))


@feature("T25")
def test_gunicorn_forks_workers_that_each_enqueue_and_run_jobs(tmp_path: Path) -> None:
    socket = tmp_path / "gunicorn.sock"
    command = ("gunicorn", "--preload", "--workers", "2", "--bind", f"unix:{socket}", "tests.app.wsgi:application")
    with running(*command, until="Booting worker") as (process, output):
        _read_until(output, "Booting worker")
        answers = []
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60) as client:
            for n in range(40):
                answers.append(client.get(f"http://local/{n}").json())
                if len({answer["pid"] for answer in answers}) == 2 and n > 4:
                    break
        assert [answer["result"] for answer in answers] == list(range(1, len(answers) + 1))
        assert not any(answer["inherited"] for answer in answers)
        assert process.pid not in {answer["pid"] for answer in answers}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@feature("T25")
def test_a_worker_lives_in_the_lifespan_of_an_asgi_app(tmp_path: Path) -> None:
    socket = tmp_path / "uvicorn.sock"
    command = ("uvicorn", "--uds", str(socket), "tests.app.asgi:application")
    with running(*command, until="Uvicorn running") as (process, output):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60) as client:
            assert [client.get(f"http://local/{n}").json()["result"] for n in range(5)] == [0, 2, 4, 6, 8]
        process.send_signal(signal.SIGTERM)
        _read_until(output, "worker stopped with 0 busy")
        process.wait(60)


@feature("T20", "T30")
def test_run_works_until_a_signal_and_drains(tmp_path: Path) -> None:
    with running("tests.app.runner_program", until="started on", stdin=subprocess.PIPE) as (process, output):
        process.send_signal(signal.SIGTERM)
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        seen = _read_until(output, "stopped with code")
        assert seen == ["finished", "lifespan ended", "stopped with code 0"]
        assert process.wait(60) == 0


def test_run_takes_uvloop_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    program = (
        "import asyncio\n"
        "from holdfast import Holdfast\n"
        "from holdfast.app.preparing import loop_factory\n"
        "with asyncio.Runner(loop_factory=loop_factory()) as runner: print(type(runner.get_loop()).__module__)\n"
        "print(type(asyncio.new_event_loop()).__module__)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["uvloop", "asyncio.unix_events"], "for our loop alone; never installed for all"


async def test_run_in_a_running_loop_names_the_other_form(plain: Holdfast) -> None:
    with pytest.raises(UsageError, match=r"Use `async with app.worker\(queues=…\):` there"):
        plain.run()


def test_a_program_that_used_sync_on_a_journal_ends_without_a_word_and_leaves_the_folder_free(tmp_path: Path) -> None:
    program = (
        "from holdfast import Holdfast\n"
        "app = Holdfast('journal:PATH')\n"
        "@app.task\n"
        "async def t(i: int) -> int: return i\n"
        "print(t.sync.enqueue(1).id, app.sync(app.jobs.count()))\n"
    ).replace("PATH", str(tmp_path / "data"))
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False) for _ in range(2)
    ]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 2
    assert [run.stdout.split()[1] for run in runs] == ["1", "2"]


def test_sync_of_what_is_no_coroutine_is_told_with_the_right_form(plain: Holdfast) -> None:
    for wrong in (5, plain.jobs.count, None):
        with pytest.raises(UsageError, match=r"expected a coroutine of the app, as in app.sync\(app.jobs.count\(\)\)"):
            plain.sync(wrong)  # type: ignore[arg-type]
