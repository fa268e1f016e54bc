"""A new job whose fields are not of their types is refused, before a journal that could not read it again holds it."""

from typing import Any

import pytest

from holdfast.errors import ContentError
from holdfast.job.commands import Enqueue
from holdfast.job.ledger.enqueueing import check_batch
from holdfast.job.ledger.shapes import check_types
from holdfast.job.model import NewJob, OnConflict, OnWait
from holdfast.job.retry import RetryPolicy

WRONG: list[tuple[str, Any]] = [
    ("id", b"x"),
    ("task", None),
    ("queue", b"default"),
    ("payload", "{}"),
    ("payload", None),
    ("headers", {"a": "b"}),
    ("priority", 1.5),
    ("priority", True),
    ("priority", "10"),
    ("own_id", 1),
    ("timeout", "30s"),
    ("timeout", object()),
    ("delay", "5m"),
    ("run_at", "2030-01-01"),
    ("key", 42),
    ("unique", 42),
    ("unique_window", "1h"),
    ("sticky", 7),
    ("replay_of", 7),
    ("on_wait", "hold"),
    ("on_wait", "sometimes"),
    ("on_conflict", "error"),
    ("retry", 3),
    ("retry", RetryPolicy(max_attempts="3")),  # type: ignore[arg-type]
    ("retry", RetryPolicy(delays=("5s",))),  # type: ignore[arg-type]
    ("tags", ["a"]),
    ("tags", (1,)),
    ("tags", "red"),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_field_of_another_type_is_refused_with_the_job_and_the_field(field: str, value: Any) -> None:
    wrong = NewJob(**{"id": "mine", "task": "t", field: value})
    with pytest.raises(ContentError, match="expected each field of a NewJob to be of its type") as refused:
        check_batch(Enqueue(jobs=(NewJob(id="right", task="t"), wrong)))
    assert field == "id" or "'mine'" in str(refused.value)
    assert "Nothing was stored" in str(refused.value)


def test_what_is_no_job_at_all_is_refused() -> None:
    with pytest.raises(ContentError, match="expected a NewJob, found dict"):
        check_batch(Enqueue(jobs=({"id": "mine", "task": "t"},)))  # type: ignore[arg-type]


def test_all_that_a_job_may_say_is_accepted() -> None:
    check_types(
        [
            NewJob(id="plain", task="t"),
            NewJob(
                id="all",
                task="t",
                own_id=True,
                queue="q",
                payload=b"{}",
                priority=-100,
                run_at=5.0,
                retry=RetryPolicy(max_attempts=3, delays=(1.0,)),
                timeout=30,  # a whole number of seconds
                key="k",
                on_wait=OnWait.PASS,
                sticky="s",
                unique="u",
                unique_window=60,
                on_conflict=OnConflict.KEEP,
                tags=("a", "b"),
                headers=b"{}",
                replay_of="other",
            ),
            NewJob(id="later", task="t", delay=5.0, key="k", unique="u", timeout=3.0),
        ]
    )
