"""What tests of the command line share: commands in this process, and one node for those that need a live one."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.main import run
from holdfast.telemetry.logs import NAME
from tests.node.processes import NodeProcess


class Answer:
    """What a command wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Command]:
    """Run a command in this process, in an empty folder, without settings from outside."""
    import os

    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    before = logging.getLogger(NAME).handlers[:]

    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    yield command
    # A command sets up its log for the whole of a program; here it would write to the output of a test that is over.
    logger = logging.getLogger(NAME)
    for handler in [one for one in logger.handlers if one not in before]:
        logger.removeHandler(handler)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for the tests of a module; each uses jobs of its own."""
    started = NodeProcess(tmp_path_factory.mktemp("node") / "data")
    yield started
    started.kill()


@pytest.fixture
def at(cli: Command, node: NodeProcess) -> Command:
    """Run a command on the data folder of the node."""

    def command(*arguments: object) -> Answer:
        words: Sequence[object] = arguments
        return cli(*words, "--data", node.data)

    return command
