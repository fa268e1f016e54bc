"""The tables: made once, kept as long as was asked, and not touched by an older release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.errors import ConfigError
from holdfast.histories.clickhouse.migrate import migrate
from holdfast.history import AttemptFilter, JobFilter, Page
from holdfast.job.state import End, State
from tests.clickhouse.harness import ClickhouseHarness, embedded_history
from tests.contract.adapters import ADAPTERS
from tests.features import feature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio
DAY = 86_400.0
ROWS = ("job", "block", "attempt", "minute", "hour", "day")


@pytest.fixture
async def h(request: pytest.FixtureRequest) -> AsyncIterator[ClickhouseHarness]:
    """A history that keeps what has ended for so many days."""
    harness = embedded_history(ADAPTERS["memory"](), keep=getattr(request, "param", "30d"))
    await harness.open()
    yield harness
    await harness.close()


async def aged(h: ClickhouseHarness, days: float) -> None:
    """A record of a job that ended so many days before now by the engine's own clock."""
    [[now]] = await h.rows("SELECT toUnixTimestamp(now())")
    at = float(now) - days * DAY
    job_id = f"{days:g} days"
    await h.record(job_id, state=State.SUCCEEDED, created_at=at - 60.0, updated_at=at, finished_at=at)
    await h.report(1, End.SUCCEEDED, job_id, started_at=at - 5.0, ended_at=at)


async def merged(h: ClickhouseHarness) -> dict[str, int]:
    """Rows of each table once the engine has put them together."""
    found = {}
    for table in ROWS:
        await h.history.client.execute(h.history.tables.named(f"OPTIMIZE TABLE {{{table}}} FINAL"))
        [[found[table]]] = await h.rows(f"SELECT count() FROM {{{table}}} FINAL")
    return found


@feature("H17")
@pytest.mark.parametrize("h", ["30d"], indirect=True)
async def test_what_ended_longer_ago_than_is_kept_goes_with_its_figures(h: ClickhouseHarness) -> None:
    await aged(h, 40.0)
    await aged(h, 20.0)
    rows = await merged(h)
    assert {table: count for table, count in rows.items() if table != "block"} == dict.fromkeys(
        ("job", "attempt", "minute", "hour", "day"), 1
    )
    shown = await h.jobs.list(JobFilter(states=(State.SUCCEEDED,)), Page(limit=10))
    assert "20 days" in [job.id for job in shown.items]
    found = await h.jobs.find_attempts(AttemptFilter(after=0.0), Page(limit=10))
    assert [one.job for one in found.items] == ["20 days"]


@pytest.mark.parametrize("h", ["forever"], indirect=True)
async def test_what_is_kept_for_ever_stays_until_somebody_asks_for_less(h: ClickhouseHarness) -> None:
    await aged(h, 400.0)
    await aged(h, 1.0)
    assert (await merged(h))["attempt"] == 2
    shorter = h.history.tables._replace(keep_days=30)
    assert await migrate(h.history.client, shorter) == ["keep 30"]
    assert await migrate(h.history.client, shorter) == []
    [[kept]] = await h.rows("SELECT create_table_query FROM system.tables WHERE name = 'holdfast_attempt'"
                            f" AND database = '{h.database}'")  # fmt: skip
    assert "toIntervalDay(30)" in kept
    assert await migrate(h.history.client, h.history.tables) == ["keep for ever"]


async def test_tables_that_a_newer_release_made_are_refused(h: ClickhouseHarness) -> None:
    assert await migrate(h.history.client, h.history.tables) == []
    await h.history.client.execute(
        h.history.tables.named(
            "INSERT INTO {meta} (name, version, value) SELECT 'schema', toUnixTimestamp64Nano(now64(9)), '99'"
        )
    )
    with pytest.raises(ConfigError, match="newer release"):
        await migrate(h.history.client, h.history.tables)
