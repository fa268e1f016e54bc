"""Ids and names: making the one, checking the other.

An id made here is a UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 bits that are drawn anew for each
millisecond; within it the last 48 are counted up by drawn steps. So the ids of one maker grow, an index takes them at its
right edge, and the ids of two processes do not meet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from holdfast.errors import ConfigError, ContentError
from holdfast.job.model import PRIORITY_MAX, PRIORITY_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_MAX: Final = 128
NAME_MAX: Final = 100
KEY_MAX: Final = 512
TAGS_MAX: Final = 16

LOW_BITS: Final = 48
LOW_MAX: Final = 2**LOW_BITS - 1


def uuid7(milliseconds: int, random: int) -> str:
    """Return the UUIDv7 of a time (Unix milliseconds, 48 bits) and 74 random bits. Pure.

    >>> uuid7(0x017F22E279B0, 0x0CC3 << 62 | 0x18C4DC0C0C07398F)
    '017f22e2-79b0-7cc3-98c4-dc0c0c07398f'
    """
    return f"{head(milliseconds, random >> LOW_BITS)}{random & LOW_MAX:012x}"


def head(milliseconds: int, high: int) -> str:
    """Return all but the last 12 digits; `high` is 26 random bits."""
    return (
        f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{high >> 14 & 0xFFF:03x}-{high & 0x3FFF | 0x8000:04x}-"
    )


# --- checks --------------------------------------------------------------------------------------------------------

# What stands in URLs, command lines (-q mail=50) and metric labels: letters and digits of any script, and . _ : / @ -
_NAME: Final = re.compile(r"\w[\w.:/@-]*")
# Line breaks, other control characters (NUL among them) and lone surrogates.
_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_name(value: object, what: str) -> str:
    """Return `value` if it is a name for a queue or a task; else raise ConfigError. `what` tells which."""
    if isinstance(value, str) and len(value) <= NAME_MAX and _NAME.fullmatch(value):
        return value
    raise ConfigError(
        f"{what}: expected 1 to {NAME_MAX} letters, digits and . _ : / @ - beginning with a letter or digit, "
        f"found {shown(value)}. Choose another name."
    )


def check_text(value: object, what: str, limit: int) -> str:
    """Return `value` if it is text of 1 to `limit` characters without control characters; else raise ContentError."""
    if isinstance(value, str) and 0 < len(value) <= limit and not _UNCLEAN.search(value):
        return value
    if isinstance(value, str) and len(value) > limit:
        raise ContentError(
            f"{what}: expected at most {limit} characters, found {len(value)}: {shown(value)}. Shorten or hash it."
        )
    raise ContentError(
        f"{what}: expected text of 1 to {limit} characters without control characters or lone surrogates, "
        f"found {shown(value)}. Convert it to plain text."
    )


def check_id(value: object) -> str:
    """Return a caller's own job id if it is one; else raise ContentError."""
    return check_text(value, "id", ID_MAX)


def check_key(value: object, what: str = "key") -> str:
    """Return a key or unique key if it is one; else raise ContentError."""
    return check_text(value, what, KEY_MAX)


def check_tags(values: Iterable[object]) -> tuple[str, ...]:
    """Return the tags without repeats, in their order; raise ContentError if there are too many or one is bad."""
    if isinstance(values, str):
        raise ContentError(
            f"tags: expected a list of texts, found one text {shown(values)}. Write tags=[{values!r:.60}]."
        )
    tags = tuple(dict.fromkeys(check_text(tag, "tag", NAME_MAX) for tag in values))
    if len(tags) > TAGS_MAX:
        raise ContentError(
            f"tags: expected at most {TAGS_MAX}, found {len(tags)}. Put the rest into headers or arguments."
        )
    return tags


def check_priority(value: object) -> int:
    """Return a priority if it is one (higher runs first); else raise ContentError."""
    if isinstance(value, int) and not isinstance(value, bool) and PRIORITY_MIN <= value <= PRIORITY_MAX:
        return value
    raise ContentError(
        f"priority: expected a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}, found {shown(value)}. "
        "Higher runs first; 0 is normal."
    )


def shown(value: object) -> str:
    """Return `value` for an error message: short, and its type when it is no text."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:60]!r}… ({len(value)} characters)"
    return f"{value!r:.80} ({type(value).__name__})"
