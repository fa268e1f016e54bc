"""Whole worker processes on one database."""

from pathlib import Path

from tests.features import feature
from tests.sql.core import fleets


@feature("T16", "G18", "TW3")
async def test_a7_ten_processes_run_ten_thousand_jobs_each_exactly_once(url: str, tmp_path: Path) -> None:
    await fleets.many_processes_run_each_job_once(url, tmp_path, processes=10, jobs=10_000)


async def test_workers_that_are_killed_lose_no_job(url: str, tmp_path: Path) -> None:
    await fleets.killed_processes_lose_nothing(url, tmp_path, processes=3, jobs=300, kills=4)


@feature("T12", "T13")
async def test_a8_serial_queues_and_keys_never_overlap_over_a_fleet(url: str, tmp_path: Path) -> None:
    await fleets.limits_hold_over_the_fleet(url, tmp_path, processes=3, jobs=60)
