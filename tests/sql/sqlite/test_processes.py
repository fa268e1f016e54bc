"""Many processes on one file."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.features import feature
from tests.sql.core import races
from tests.sql.core.looking import faults_of


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A new file; at the end its tables must not contradict each other."""
    file = tmp_path / "queue.db"
    yield f"sqlite:///{file}"
    connection = sqlite3.connect(file)
    try:
        assert faults_of(lambda sql: connection.execute(sql).fetchall()) == []
    finally:
        connection.close()


@feature("T16", "TW3")
@pytest.mark.parametrize("racers", [2, 4])
async def test_each_attempt_is_handed_out_once_to_two_and_four_processes(url: str, tmp_path: Path, racers: int) -> None:
    await races.each_job_is_claimed_once_an_attempt(url, tmp_path, racers=racers, jobs=10_000, batch=100)


async def test_a_unique_key_has_one_holder_whoever_comes_first(url: str, tmp_path: Path) -> None:
    await races.a_unique_key_has_one_holder(url, tmp_path, racers=4)


async def test_a_window_has_one_job_whoever_runs_it(url: str, tmp_path: Path) -> None:
    await races.a_window_has_one_job(url, tmp_path, racers=4)


async def test_an_unfinished_job_keeps_its_unique_key_until_its_end(url: str, tmp_path: Path) -> None:
    await races.an_unfinished_job_keeps_its_key(url, tmp_path, racers=4)


async def test_an_own_id_is_taken_once_whoever_comes_first(url: str, tmp_path: Path) -> None:
    await races.an_own_id_is_taken_once(url, tmp_path, racers=4)


async def test_a_key_runs_one_job_at_a_time_over_four_processes(url: str, tmp_path: Path) -> None:
    await races.a_key_never_runs_twice_at_once(url, tmp_path, racers=4)


@pytest.mark.soak
@pytest.mark.parametrize("racers", [4, 8])
async def test_each_attempt_is_handed_out_once_in_a_long_race(url: str, tmp_path: Path, racers: int) -> None:
    await races.each_job_is_claimed_once_an_attempt(url, tmp_path, racers=racers, jobs=200_000)


@pytest.mark.soak
async def test_a_key_runs_one_job_at_a_time_in_a_long_race(url: str, tmp_path: Path) -> None:
    await races.a_key_never_runs_twice_at_once(url, tmp_path, racers=8, count=2_000)


@pytest.mark.soak
async def test_a_unique_key_has_one_holder_in_a_long_race(url: str, tmp_path: Path) -> None:
    await races.a_unique_key_has_one_holder(url, tmp_path, racers=8, keys=50, rounds=50)
