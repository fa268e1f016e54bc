"""Users who write a store run the suites from their own project, with two lines and a fixture."""

import subprocess
import sys
from pathlib import Path

from tests.features import feature

PROJECT = """
import pytest
from holdfast.clock import ManualClock
from holdfast.stores.memory import MemoryStore
from holdfast.testing.contract import SourceContract, StoreContract, StoreHarness

class MyStore(MemoryStore):
    BODY

@pytest.fixture
def store_factory():
    clock = ManualClock()
    return lambda: StoreHarness(MyStore(clock=clock), clock)

@pytest.fixture
def source_factory(store_factory):
    return store_factory

class TestMyStore(StoreContract): ...
class TestMySource(SourceContract): ...
"""
BROKEN = """
    async def settle(self, settlements):
        answers = await super().settle(settlements)
        return answers[::-1]
"""


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the suites in a project of its own, as a user would."""
    (folder / "test_mine.py").write_text(PROJECT.replace("    BODY", body))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nasyncio_mode = strict\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "batch or finished", str(folder)]
    plugin = [] if _registered() else ["-p", "holdfast.testing.plugin"]
    return subprocess.run([*command, *plugin], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def _registered() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "holdfast.testing.plugin" for point in entry_points(group="pytest11"))


@feature("T24")
def test_a_users_project_runs_the_suites_in_strict_mode(tmp_path: Path) -> None:
    done = run(tmp_path, "    pass")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


@feature("T24")
def test_a_broken_store_is_found_and_the_failed_assert_shows_its_values(tmp_path: Path) -> None:
    done = run(tmp_path, BROKEN)
    assert done.returncode == 1, done.stdout
    assert "test_answers_of_a_settled_batch_come_per_item_and_in_order" in done.stdout
    assert "At index 1 diff" in done.stdout
