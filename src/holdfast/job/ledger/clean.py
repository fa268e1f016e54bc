"""Texts and times that come from outside, made storable. What is changed stays visible."""

from __future__ import annotations

from math import isnan
from typing import Final

#: The longest wait that an ending can ask for, in seconds: ten years.
WAIT_MAX: Final = 10 * 365.25 * 86_400.0

#: The last time that can be stored, in seconds since the epoch: microseconds of it fit 63 bits in every database.
TIME_MAX: Final = 1e12


def storable_time(seconds: float) -> bool:
    """Tell whether a time or delay is a number that every store can hold.

    >>> [storable_time(value) for value in (0.0, 1.8e9, float("nan"), 1e300)]
    [True, True, False, False]
    """
    return abs(seconds) <= TIME_MAX


def encodable(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str) -> str:
    """Return the text with lone surrogates written out.

    >>> clean("a\\ud800b") == "a\\\\ud800b"
    True
    """
    return text if encodable(text) else text.encode("utf-8", "backslashreplace").decode()


def wait_seconds(seconds: float) -> float:
    """Return a wait as a number that a clock can reach: 0 for nothing sensible, at most WAIT_MAX.

    >>> [wait_seconds(value) for value in (-1.0, float("nan"), 5.0)]
    [0.0, 0.0, 5.0]
    """
    return 0.0 if isnan(seconds) else min(max(0.0, seconds), WAIT_MAX)
