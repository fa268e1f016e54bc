"""Many processes on one database."""

from pathlib import Path

import pytest

from tests.features import feature
from tests.sql.core import races


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


@feature("T24")
async def test_workers_whose_clocks_are_a_day_off_change_nothing(url: str, tmp_path: Path) -> None:
    await races.the_clocks_of_workers_change_nothing(url, tmp_path)


async def test_an_own_id_is_taken_once_whoever_comes_first(url: str, tmp_path: Path) -> None:
    await races.an_own_id_is_taken_once(url, tmp_path, racers=4)


async def test_a_key_runs_one_job_at_a_time_over_four_processes(url: str, tmp_path: Path) -> None:
    await races.a_key_never_runs_twice_at_once(url, tmp_path, racers=4)
