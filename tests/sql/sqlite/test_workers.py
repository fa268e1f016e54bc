"""Whole worker processes on one file."""

from pathlib import Path

import pytest

from tests.features import feature
from tests.sql.core import fleets


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'queue.db'}"


@feature("T16", "G18", "TW3")
async def test_a7_ten_processes_run_ten_thousand_jobs_each_exactly_once(url: str, tmp_path: Path) -> None:
    await fleets.many_processes_run_each_job_once(url, tmp_path, processes=10, jobs=10_000)


async def test_workers_that_are_killed_lose_no_job(url: str, tmp_path: Path) -> None:
    await fleets.killed_processes_lose_nothing(url, tmp_path, processes=3, jobs=300, kills=4)


@feature("T20")
@pytest.mark.parametrize("turns", [2, pytest.param(50, marks=pytest.mark.soak)])
async def test_workers_that_are_replaced_under_load_run_each_job_once(url: str, tmp_path: Path, turns: int) -> None:
    await fleets.restarted_processes_finish_what_they_began(url, tmp_path, processes=2, jobs=150 * turns, turns=turns)


@feature("T19")
async def test_a_process_that_is_hogged_for_three_leases_keeps_its_job(url: str, tmp_path: Path) -> None:
    await fleets.a_hogged_process_keeps_its_jobs(url, tmp_path, lease=1.0, leases=3)


@feature("T16")
async def test_deaths_of_every_kind_are_counted_and_harm_no_innocent(url: str, tmp_path: Path) -> None:
    await fleets.deaths_of_every_kind_are_counted_and_harm_no_innocent(url, tmp_path, innocents=40)


@feature("T12", "T13")
async def test_a8_serial_queues_and_keys_never_overlap_over_a_fleet(url: str, tmp_path: Path) -> None:
    await fleets.limits_hold_over_the_fleet(url, tmp_path, processes=3, jobs=60)


@feature("T20")
@pytest.mark.parametrize("points", [17, pytest.param(850, marks=pytest.mark.soak)])
async def test_a_signal_at_any_point_of_a_workers_dialogue_leaves_nothing_behind(
    url: str, tmp_path: Path, points: int
) -> None:
    await fleets.a_signal_at_any_point_leaves_nothing_behind(url, tmp_path, points=points)
