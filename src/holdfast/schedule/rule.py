"""A schedule's rule: a text that says when it fires.

*/5 * * * *                                     cron, five fields, or six with seconds first
@daily                                          a name for one
every 30s                                       an interval in elapsed time
{"frequency": "monthly", "days_of_month": [-1]} a recurrence rule
{"frequency": "none", "starts_at": "2030-01-01T09:00:00+01:00"}   once
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.durations import DURATION_MAX
from holdfast.errors import ConfigError
from holdfast.schedule.cron import Cron
from holdfast.schedule.every import Every
from holdfast.schedule.recurrence import Recurrence, read_recurrence
from holdfast.schedule.zones import zone_of

if TYPE_CHECKING:
    from holdfast.durations import Duration

RULE_MAX: Final = 1_000
_EVERY: Final = re.compile(r"@?every\s+(.+)", re.IGNORECASE | re.DOTALL)


class Rule(Protocol):
    """When a schedule fires."""

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after `moment`, in seconds since the epoch; None: there is none."""
        ...


def read_rule(text: str, zone: str = "UTC", start: float | None = None, made: float = 0.0) -> Rule:
    """Return the rule of a text in a time zone. Raises ConfigError or BadTime, which say what was expected.

    start: where counting begins, for intervals and recurrence rules that name no start; `made` takes its place for the
    latter when there is none.

    >>> read_rule("0 9 * * *", "Europe/Berlin").next_after(0.0)  # nine in Berlin was eight in London
    28800.0
    """
    if not text.strip() or len(text) > RULE_MAX:
        raise ConfigError(f"rule: expected a text of 1 to {RULE_MAX:,} characters, found {text!r:.80}.")
    place = zone_of(zone)
    words = _EVERY.fullmatch(text.strip())
    if words is not None:
        return Every(words[1].strip(), start or 0.0)
    if text.lstrip().startswith("{"):
        return Recurrence(read_recurrence(text), place, made if start is None else start)
    return Cron(text.strip(), place)


def every_text(interval: Duration) -> str:
    """Return the rule of an interval. Raises BadTime.

    >>> every_text("1h30m"), every_text(0.25)
    ('every 5400s', 'every 0.25s')
    """
    found = Every(interval).interval
    assert found <= DURATION_MAX
    text = f"{found:.6f}".rstrip("0").rstrip(".")
    return f"every {text}s"
