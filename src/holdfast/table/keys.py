"""Keys of rows as text, and back: for logs, metrics, addresses and the command line, where an id is a text.

What a program is given is the key itself; both are taken wherever an id is asked for.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Enum

from holdfast.job.ids import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

_MICRO: Final = timedelta(microseconds=1)
_BOOLS: Final = {"True": True, "False": False}
_NUMBERS: Final = (int, float, Decimal)


class KeyPart:
    """One column of a key."""

    def __init__(self, name: str, column: ColumnElement[Any]) -> None:
        self.name = name
        try:
            self._kind: type | None = column.type.python_type
        except NotImplementedError:
            self._kind = None  # a type of the user's own: what it is given is what it gets
        self._is_enum = isinstance(column.type, Enum) and column.type.enum_class is not None

    def text(self, value: Any) -> str:
        """Return a part as text."""
        if isinstance(value, str):
            return str(value)
        if isinstance(value, enum.Enum) and self._is_enum:
            return value.name
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, timedelta):
            return str(value // _MICRO)
        return str(value)

    def value(self, text: str) -> Any:
        """Return the part that a text names. Raises ValueError, or what the type itself raises, for a text that is none."""
        kind: Any = self._kind
        if kind is None or kind is str:
            return text
        if self._is_enum:
            return kind[text]
        if kind is bytes:
            return bytes.fromhex(text)
        if kind is bool:
            return _BOOLS[text]
        if kind is timedelta:
            return int(text) * _MICRO
        return kind.fromisoformat(text) if hasattr(kind, "fromisoformat") else kind(text)

    def checked(self, given: object) -> Any:
        """Return a part that a caller gave, itself or its text. Raises ValueError that says what was expected."""
        kind = self._kind
        if given is None:
            raise ValueError(f"expected {self.name}, found None")
        if kind is None or isinstance(given, kind) or (kind in _NUMBERS and isinstance(given, _NUMBERS)):
            return given
        if isinstance(given, str):
            try:
                return self.value(given)
            except (ValueError, TypeError, ArithmeticError, KeyError):
                pass
        raise ValueError(f"expected {self.name} of type {kind.__name__}, found {shown(given)}")

    def order(self, value: Any) -> Any:
        """Return what sorts parts."""
        return value.name if isinstance(value, enum.Enum) else value if self._kind is not None else f"{value!r}"


def joined(parts: Sequence[str]) -> str:
    """Return the parts of a composite key as one text: joined by commas, those within a part escaped.

    >>> print(joined(["a,b", "2"]))
    a\\,b,2
    """
    if len(parts) == 1:
        return parts[0]
    return ",".join(part.replace("\\", "\\\\").replace(",", "\\,") for part in parts)


def parts_of(row_id: str) -> list[str]:
    """Return the parts of a composite key's text.

    >>> parts_of("a\\\\,b,2")
    ['a,b', '2']
    """
    parts, letters = [""], iter(row_id)
    for letter in letters:
        if letter == ",":
            parts.append("")
        else:
            parts[-1] += next(letters, "") if letter == "\\" else letter
    return parts
