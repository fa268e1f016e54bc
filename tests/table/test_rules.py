"""The rules of rows without a database: what a limit is, to its end."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import DateTime, Float, Integer, Numeric, String
from sqlalchemy.types import TypeEngine

from holdfast.job.commands import Accepted, Claim, Released, Settlement, Snoozed, Succeeded
from holdfast.job.model import RELEASES_MAX, SNOOZES_MAX
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.table.rules import Judge, Note, Row, read_note
from holdfast.table.sameness import same
from holdfast.table.words import OURS, SEED, Words
from tests.features import feature


def running(note: Note | None = None) -> Row:
    """Return a row that is claimed."""
    return Row(
        key=("a",),
        id="a",
        state=State.RUNNING,
        stored="running",
        run_at=0,
        lease_until=30_000_000,
        token=7,
        attempt=1,
        failures=0,
        snoozes=0,
        worker="w",
        instance="i",
        note=note or Note(),
    )


def ended(judge: Judge, row: Row, ending: Any) -> Row:
    """Return a row after an ending, as it is stored, and claimed once more."""
    claim: Claim[Any] = Claim(None, "a", "t", "t", row.token, row.attempt, 30.0, "a", False)
    answer, change = judge.settle(row, Settlement(claim, ending), 1_000_000)
    assert answer.accepted is Accepted.APPLIED
    assert change is not None
    values = change.values
    return replace(
        row,
        state=answer.state,
        token=row.token + 1,
        attempt=row.attempt + 1,
        failures=values["task_failures"],
        snoozes=values["task_snoozes"],
        note=read_note(values["task_note"]),
    )


@feature("A2", "G9", "GW15")
@pytest.mark.parametrize("words", [OURS, SEED], ids=["ours", "the seed's"])
@pytest.mark.parametrize(
    ("ending", "limit", "waits"),
    [
        (Snoozed(0.0), SNOOZES_MAX, State.SCHEDULED),
        (Released("stop"), RELEASES_MAX, State.QUEUED),
    ],
    ids=["snoozes", "releases"],
)
def test_each_of_a_limits_times_is_granted_and_the_next_one_fails(
    words: Words, ending: Any, limit: int, waits: State
) -> None:
    judge = Judge("t", words, RetryPolicy(), 8_192)
    row = running()
    for times in range(1, limit + 1):
        row = ended(judge, row, ending)
        assert (row.state, row.snoozes + row.note.releases, row.failures) == (waits, times, 0)
        row = replace(row, state=State.RUNNING)
    assert ended(judge, row, ending).state is State.FAILED


def test_a_success_is_repeated_only_by_a_success_of_the_same_token() -> None:
    judge = Judge("t", OURS, RetryPolicy(), 8_192)
    done = replace(running(), state=State.SUCCEEDED)
    claim: Claim[Any] = Claim(None, "a", "t", "t", 7, 1, 30.0, "a", False)
    cases: list[tuple[Any, int, Accepted]] = [
        (Succeeded(), 7, Accepted.REPEATED),
        (Succeeded(), 6, Accepted.STALE),
        (Snoozed(0.0), 7, Accepted.STALE),
    ]
    for ending, token, accepted in cases:
        answer, _ = judge.settle(done, Settlement(replace(claim, token=token), ending), 0)
        assert answer.accepted is accepted


def test_a_value_that_a_column_keeps_less_of_is_the_same() -> None:
    at = datetime(2030, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    cases: list[tuple[TypeEngine[Any], Any, Any, bool]] = [
        (String(), "a", "a", True),
        (String(), None, "", False),
        (Integer(), 1, 2, False),
        (Integer(), 1_000_000_001, 1_000_000_002, False),
        (Numeric(10, 2), Decimal("12.35"), Decimal("12.345"), True),
        (Numeric(10, 2), Decimal("12.35"), 12.36, False),
        (Float(), 0.10000000149, 0.1, True),
        (Float(), 0.101, 0.1, False),
        (DateTime(), at.replace(tzinfo=None), at, True),
        (DateTime(), at.replace(tzinfo=None, microsecond=0) + timedelta(seconds=1), at, True),
        (DateTime(), at + timedelta(seconds=1), at, False),
        (DateTime(), at.replace(microsecond=0) + timedelta(seconds=2), at, False),
    ]
    for kind, stored, given, is_same in cases:
        assert same(kind, stored, given) is is_same, (kind, stored, given)
