"""After a process died, or the file was restored from a backup."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.features import feature
from tests.sql.core import aftermath


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@feature("T16")
async def test_an_operation_goes_on_when_its_process_died(file: Path, tmp_path: Path) -> None:
    await aftermath.an_operation_goes_on_when_its_process_died(f"sqlite:///{file}", tmp_path)


@feature("T16")
async def test_no_token_is_given_twice_after_a_restore(file: Path) -> None:
    copy = file.with_suffix(".backup")

    def restore() -> None:
        shutil.copy(copy, file)

    def back_up() -> Callable[[], None]:
        shutil.copy(file, copy)  # nobody has it open: its log is empty
        return restore

    await aftermath.no_token_is_given_twice_after_a_restore(f"sqlite:///{file}", back_up)
