"""The tables as the code knows them: names and columns, in order. The text that makes them stands in migrations/."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from holdfast.errors import ConfigError

#: What a job is while it has not ended. The order is the order of a row's values in the code.
JOB_COLUMNS: Final = (
    "seq", "id", "queue", "task", "state", "ready", "prio", "run_at", "payload", "policy", "lane_key", "lane", "uniq",
    "sticky", "pod", "pod_epoch", "suspect", "created_at", "queued_at", "updated_at", "attempt", "token", "instance",
    "worker", "version", "started_at", "lease_until", "cancel_asked", "rest",
)  # fmt: skip
#: What an ended job has beside these.
END_COLUMNS: Final = ("finished_at", "duration", "result", "tail", "deleted_at")
DONE_COLUMNS: Final = (*JOB_COLUMNS, *END_COLUMNS)
#: What the claim of a job tells of its row; all else is known of whatever was claimed as a plain job.
CLAIMED: Final = (
    "seq", "id", "task", "queue", "payload", "prio", "run_at", "policy", "lane_key", "uniq", "created_at", "queued_at",
    "attempt", "token", "lease_until", "rest",
)  # fmt: skip


class Table(NamedTuple):
    """A table: the columns of a row as the code knows it, of which the first `key` are the primary key; `beside` are those
    that are changed by statements of their own."""

    columns: tuple[str, ...]
    key: int = 1
    beside: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.columns, *self.beside)


TABLES: Final[dict[str, Table]] = {
    "job": Table(JOB_COLUMNS, beside=("owner",)),
    "done": Table(DONE_COLUMNS),
    "attempt": Table(("seq", "number", "body"), key=2),
    "queue": Table(("name", "paused", "fleet_limit", "rescue_after", "body")),
    "definition": Table(("id", "alias", "stopped", "body")),
    "schedule": Table(("name", "next_run_at", "body")),
    "worker": Table(("name", "body")),
    "instance": Table(("id", "worker", "live", "owns", "heartbeat_at", "lease", "body", "beat")),
    "operation": Table(("id", "created_at", "state", "body")),
    "audit": Table(("seq", "at", "body")),
    "link": Table(("service", "lane_key", "pod", "instance", "epoch"), key=2),
    "tally": Table(("queue", "task", "worker", "state", "shard", "n", "timed", "took"), key=5),
    "report": Table(("hour", "worker", "outcome", "n", "timed", "took"), key=3),
    "counter": Table(("name", "shard", "n"), key=2),
    "stat": Table(
        (
            "minute",
            "queue",
            "task",
            "outcome",
            "instance",
            "worker",
            "n",
            "waited",
            "ran",
            "waits",
            "runs",
            "timed",
            "took",
        ),
        key=5,
    ),
    "stat_sum": Table(
        (
            "span",
            "number",
            "queue",
            "task",
            "outcome",
            "worker",
            "n",
            "waited",
            "ran",
            "waits",
            "runs",
            "timed",
            "took",
        ),
        key=6,
    ),
    "feed": Table(("seq", "gone")),  # after the column that orders it
    "meta": Table(("name", "value")),
}

#: Goes before the name of each table unless another prefix is asked for.
PREFIX: Final = "holdfast_"


def check_prefix(prefix: str) -> str:
    """Return a prefix of table names if it is one. Raises ConfigError."""
    if re.fullmatch(r"[a-z_][a-z0-9_]{0,30}", prefix):
        return prefix
    raise ConfigError(
        f"prefix: expected small letters, digits and _, at most 31 and no digit first, found {prefix!r}. "
        "It goes before the name of each table."
    )
