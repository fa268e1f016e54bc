"""One JSON, two spellings: with a space behind each colon and comma, or with none. A search finds both. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

#: A string, with an end or without, or a sign between values and the space behind it.
_PARTS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|([:,])\s*|[^":,]+')


@lru_cache(maxsize=64)
def spellings(text: str) -> tuple[str, ...]:
    """Return how a piece of JSON may be written: as it is given, and, where it holds a string, without and with spaces.

    >>> spellings('"n":7'), spellings('"n": 7'), spellings('a, b: c')
    (('"n":7', '"n": 7'), ('"n": 7', '"n":7'), ('a, b: c',))
    >>> spellings('{"a, b":[1,2]}')
    ('{"a, b":[1,2]}', '{"a, b": [1, 2]}')
    """
    if '"' not in text:
        return (text,)
    close, wide = _spaced(text, ""), _spaced(text, " ")
    return tuple(dict.fromkeys((text, close, wide if text[-1] not in ":," else wide.rstrip())))


def _spaced(text: str, space: str) -> str:
    return _PARTS.sub(lambda part: part[1] + space if part[1] else part[0], text)


@lru_cache(maxsize=64)
def encoded_spellings(text: str) -> tuple[bytes, ...]:
    """Return the same as the bytes that payloads hold."""
    return tuple(one.encode("utf-8", "surrogatepass") for one in spellings(text))
