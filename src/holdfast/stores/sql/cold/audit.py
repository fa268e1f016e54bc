"""The audit log does not grow for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Script, Step

#: How many entries of the audit log a database keeps, and how many more there may be before the oldest go.
AUDIT_KEPT: Final = 100_000
AUDIT_SLACK: Final = 1_000


def trim_audit(step: Step) -> Script[None]:
    """Let the oldest entries go: the newest AUDIT_KEPT stay."""
    [[oldest, newest]] = yield step.db.q("SELECT min(seq), max(seq) FROM {audit}")
    if newest is not None and newest - oldest >= AUDIT_KEPT + AUDIT_SLACK:
        yield step.db.q("DELETE FROM {audit} WHERE seq <= ?", newest - AUDIT_KEPT)
