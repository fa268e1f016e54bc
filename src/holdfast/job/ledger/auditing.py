"""The audit log: who did what, and to how many. Most commands write their own entries; this is the rule for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.job import facts as f
from holdfast.job.ledger.clean import clean

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job import commands as c
    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger

#: The longest text of an entry, in characters; more is cut.
TEXT_MAX: Final = 1_000


def audit(_ledger: Ledger, command: c.Audit, now: float, _draw: Draw) -> Generator[f.Fact, None, None]:
    """Write an entry."""
    given = (command.who, command.action, command.subject, command.detail)
    who, action, subject, detail = (clean(text[:TEXT_MAX]) for text in given)
    yield f.Audited(who, action, subject, detail, now, command.count)
