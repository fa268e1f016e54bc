"""A journal that a program of the user has open is served to other processes as a node would serve it."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.errors import BadArguments
from holdfast.wire.place import SOCKET, answers, find_node
from tests.node.processes import LIMIT, ROOT, environment, eventually, holdfast


@contextmanager
def program(data: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that calls app.run() on the journal in `data`."""
    command = [sys.executable, "-m", "tests.node.embedding", str(data)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def embedded(data: Path) -> Holdfast:
    app = Holdfast(f"journal:{data}")

    @app.task("near.by", queue="near")
    async def near(number: int) -> int:
        return number + 1

    return app


async def cli(*arguments: object) -> Any:
    answer = await asyncio.to_thread(holdfast, *arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


async def test_other_processes_enqueue_and_read_through_a_program_that_calls_app_run(tmp_path: Path) -> None:
    with program(tmp_path / "data") as process:
        async with Holdfast(f"journal:{tmp_path / 'data'}") as other:
            job = await other.enqueue("far.away", {"number": 4})
            assert await job.result(timeout=LIMIT) == [process.pid, 8]
            with pytest.raises(BadArguments, match="number"):
                await other.enqueue("far.away", {"numbers": 4})
        status = await cli("status", "--data", tmp_path / "data")
        assert (status["succeeded"], status["node"]["pid"], status["node"]["state"]) == (1, process.pid, "ready")
        assert status["node"]["tasks"] == ["far.away"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    assert not (tmp_path / "data" / SOCKET).exists()


async def test_other_processes_use_the_journal_of_an_embedded_worker_until_the_app_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    app = embedded(data)
    async with app:
        async with app.worker(), app.worker(worker="a second one"):
            await cli("enqueue", "near.by", '{"number": 1}', "--id", "mine", "--data", data)
            assert [one.id for one in await (await app.open()).finished(["mine"], LIMIT)] == ["mine"]
        # The workers are gone; the folder is still this program's, and so is the duty to serve it.
        assert [one["id"] for one in (await cli("jobs", "ls", "--data", data))["items"]] == ["mine"]
        assert (data / SOCKET).stat().st_mode & 0o777 == 0o600
    assert find_node(data) is None


async def test_a_program_whose_loop_ends_without_a_close_leaves_no_socket(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def work() -> None:
        async with embedded(data).worker():
            assert answers(data / SOCKET)

    await asyncio.to_thread(asyncio.run, work())
    assert not (data / SOCKET).exists()


async def test_without_the_server_a_program_works_on_and_says_once_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("holdfast.node.s")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    app = embedded(tmp_path / "data")
    with caplog.at_level(logging.WARNING, "holdfast.app"):
        async with app:
            for _ in range(2):
                async with app.worker():
                    job = await app.enqueue("near.by", {"number": 1})
                    assert await job.result(timeout=LIMIT) == 2
    [said] = [record.getMessage() for record in caplog.records]
    assert "pip install 'holdfast[node]'" in said
    assert not (tmp_path / "data" / SOCKET).exists()


async def test_where_the_socket_can_not_be_made_a_program_works_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    (data / SOCKET).mkdir(parents=True)  # a folder of that name can not be replaced
    app = embedded(data)
    async with app, app.worker():
        job = await app.enqueue("near.by", {"number": 1})
        assert await job.result(timeout=LIMIT) == 2
    assert [record.levelname for record in caplog.records if "other processes" in record.getMessage()] == ["WARNING"]


def test_a_forked_child_does_not_hold_the_socket_of_a_program_that_has_ended(tmp_path: Path) -> None:
    from holdfast.node.sockets import bind_unix

    bound = bind_unix(tmp_path)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        bound.close()
        eventually(lambda: not answers(tmp_path / SOCKET), "the child's letting go")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
