"""Whether a column holds what was written to it. Pure.

Databases keep less than they are given: a scale, a precision, whole seconds, no zone. So what is stored is compared as far
as the column's type keeps it.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

_SINGLE: Final = 1e-6  # what a number of 32 bits keeps
_SECOND: Final = timedelta(seconds=1)


def same(kind: TypeEngine[Any], stored: Any, given: Any) -> bool:
    """Return whether a column of this type, that was given `given`, may hold `stored`.

    >>> from sqlalchemy import Numeric
    >>> same(Numeric(10, 2), Decimal("12.35"), 12.345), same(Numeric(10, 2), Decimal("12.35"), 13)
    (True, False)
    """
    if isinstance(stored, datetime) and isinstance(given, datetime):
        return _same_time(stored, given)
    if _is_number(stored) and _is_number(given):
        scale = getattr(kind, "scale", None)
        kept = _SINGLE * abs(float(given)) if scale is None else 0.5000001 * 10.0**-scale
        return stored == given or (
            not (isinstance(stored, int) and isinstance(given, int))
            and math.isclose(stored, given, rel_tol=0.0, abs_tol=kept)
        )
    return bool(stored == given)


def _same_time(stored: datetime, given: datetime) -> bool:
    if (stored.tzinfo is None) != (given.tzinfo is None):
        stored, given = stored.replace(tzinfo=None), given.replace(tzinfo=None)
    return stored == given or (stored.microsecond == 0 and abs(stored - given) < _SECOND)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal)
