"""Exit codes: the table, its page, and that every error is one message."""

import re

import pytest

from holdfast import errors as e
from holdfast.cli.exits import MEANINGS, Exit, exit_of
from holdfast.cli.main import COMMANDS
from holdfast.wal.errors import LogDamaged, LogFull, LogHeld, NewerFormat
from holdfast.worker.process.frames import BrokenFrame
from tests.cli.conftest import Command
from tests.node.processes import ROOT

PAGE = ROOT / "docs" / "cli.md"


def test_the_page_has_the_table_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows == {str(int(code)): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(Exit)


def test_the_page_has_every_command() -> None:
    text = PAGE.read_text()
    assert [name for name in COMMANDS if f"`holdfast {name}" not in text] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (e.NodeNotRunning("data"), Exit.NO_NODE),
        (LogHeld("data", 1, "b", "h"), Exit.HELD),
        (LogDamaged("f", 1, "bad"), Exit.DAMAGED),
        (NewerFormat("f", "format", 9, 1), Exit.DAMAGED),
        (LogFull(essential=False, cause="x"), Exit.UNAVAILABLE),
        (e.UnknownJob("j"), Exit.UNKNOWN),
        (e.UnknownTask("t"), Exit.UNKNOWN),
        (e.DuplicateJob({"a": "b"}), Exit.REFUSED),
        (e.BadAppModule("x"), Exit.CONFIG),
        (e.TooLarge("x", 2, 1, "bytes", ""), Exit.CONTENT),
        (e.OutcomeUnknown("x"), Exit.UNAVAILABLE),
        (RuntimeError("x"), Exit.BUG),
    ],
)
def test_each_error_has_its_code(error: Exception, code: Exit) -> None:
    assert exit_of(error) is code


def test_every_error_of_ours_has_a_code_of_its_own() -> None:
    def below(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(deeper for one in kind.__subclasses__() for deeper in below(one))]

    kinds = [kind for kind in below(e.HoldfastError) if kind.__module__.startswith("holdfast.")]
    # The last is what our own processes said to each other.
    bare = {e.HoldfastError, e.WorkerError, e.JobFailed, e.JobCanceled, e.ResultTimeout, BrokenFrame}
    without = {kind for kind in kinds if exit_of(kind.__new__(kind)) is Exit.BUG}
    assert without <= bare


def test_a_misspelt_command_is_told_with_the_nearest(cli: Command) -> None:
    answer = cli("enqeue")
    assert (answer.code, "Did you mean 'enqueue'?" in answer.err) == (2, True)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_explains_itself(cli: Command, command: str) -> None:
    answer = cli(command, "--help")
    assert answer.code == 0
    assert "Usage: holdfast" in answer.out


def test_help_loads_no_command() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from holdfast.cli.main import run; run(['--help']); "
        "print([n for n in sys.modules if n.split('.')[0] in ('litestar', 'uvicorn', 'rich', 'ruamel', 'prometheus_client')])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "migrate", "worker"])
def test_an_empty_url_is_refused_and_is_not_the_journal_at_hand(cli: Command, command: str) -> None:
    """It comes from a variable that is not set: whoever wrote it meant a database."""
    answer = cli(command, *(["tests.sql.core.shop:app"] if command == "worker" else []), "--url", "")
    assert answer.code == Exit.CONFIG
    assert "--url: expected a store URL, found nothing" in answer.err
