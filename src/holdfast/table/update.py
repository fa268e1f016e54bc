"""Columns that a runner reports, on their way to the source.

An ending carries an update as bytes: JSON, for a job's data. A row's columns may hold anything (dates, decimals, bytes), so
the values themselves travel along with the text of them, in the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from holdfast.job.content import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping


class ColumnUpdate(bytes):
    """An update of columns: `columns` by attribute; the bytes are only what it looks like in a log."""

    columns: Mapping[str, Any]

    def __new__(cls, columns: Mapping[str, Any]) -> Self:
        """Hold checked columns."""
        made = super().__new__(cls, safe_repr(dict(columns)).encode("utf-8", "replace"))
        made.columns = columns
        return made


def columns_of(update: bytes | None) -> Mapping[str, Any]:
    """Return the columns of an ending's update; none for an update that is not one of columns."""
    return update.columns if isinstance(update, ColumnUpdate) else {}
