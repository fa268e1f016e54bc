"""Type checkers know a task's arguments, results and options: tests/typing says what, mypy and pyright must agree."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.features import feature

ROOT = Path(__file__).parents[2]


@feature("T28")
@pytest.mark.parametrize("checker", [("mypy", "--no-incremental"), ("pyright", "--pythonpath", sys.executable)])
def test_type_checkers_know_what_enqueue_takes_and_what_result_gives(checker: tuple[str, ...]) -> None:
    command = [str(Path(sys.executable).parent / checker[0]), *checker[1:], "tests/typing"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
