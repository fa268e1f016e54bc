"""Statements and rows in the words of other people's drivers."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row

_MARK: Final = re.compile(r"\$(\d+)|%")
#: Types of columns that hold our texts as bytes (VARBINARY), by the numbers of MySQL's protocol; and of decimal sums.
_TEXTS: Final = frozenset({15, 253, 254})
_DECIMALS: Final = frozenset({0, 246})


@lru_cache(maxsize=1_024)
def percent(sql: str) -> tuple[str, tuple[int, ...]]:
    """Return a text with $1, $2 … in the words of drivers that take %s, and which argument each of them is.

    >>> percent("SELECT $2, $1 || '%', $2")
    ("SELECT %s, %s || '%%', %s", (1, 0, 1))
    """
    order: list[int] = []

    def replace(found: re.Match[str]) -> str:
        if found[1] is None:
            return "%%"
        order.append(int(found[1]) - 1)
        return "%s"

    return _MARK.sub(replace, sql), tuple(order)


def lists(args: Sequence[Any]) -> list[Any]:
    """psycopg takes a tuple for a row, and a list for an array."""
    return [list(arg) if type(arg) is tuple else arg for arg in args]


def decoded(description: Any, rows: Sequence[Row]) -> list[Row]:
    """Return rows as our own driver has them: texts that are stored as bytes as texts, and sums as whole numbers."""
    kinds = [column[1] for column in description]
    odd = [place for place, kind in enumerate(kinds) if kind in _TEXTS or kind in _DECIMALS]
    if not odd:
        return list(rows)
    found = []
    for row in rows:
        values = list(row)
        for place in odd:
            value = values[place]
            if isinstance(value, bytes):
                values[place] = value.decode()
            elif isinstance(value, Decimal):
                values[place] = int(value)
        found.append(tuple(values))
    return found
