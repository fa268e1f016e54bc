"""Rows of new jobs in the binary format of COPY.

COPY takes rows as they come, writes many of them into a page at once, and asks no planner: measured, it costs the server a
tenth less than an INSERT of the same rows from arrays. What all jobs of a stack share is encoded once. Columns that are the
same for each new job have their values as the DEFAULT of the table, and are not sent.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import TYPE_CHECKING, Final

from holdfast.stores.sql.rows import NOT_READY, QUEUED, READY, SCHEDULED, micros, policy_of

if TYPE_CHECKING:
    from holdfast.job.stack import Stack

#: The columns, in the order in which they are encoded.
COLUMNS: Final = (
    "run_at", "created_at", "updated_at", "queued_at", "state", "ready", "prio", "queue", "task", "policy", "id",
    "payload",
)  # fmt: skip
#: What comes before all rows: the format's signature, no flags, no extension. And what ends them.
HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL: Final = b"\xff\xff"

_NULL: Final = pack(">i", -1)
_FIRST: Final = pack(">h", len(COLUMNS))


def encode(stack: Stack, now: int) -> bytes:
    """Return the rows of jobs that come now, in microseconds since the epoch. The table numbers them."""
    shared, ids, payloads = _FIRST + _shared(stack, now), stack.ids, stack.payloads
    width = len(ids[0])
    if not ("".join(ids).isascii() and set(map(len, ids)) == {width}):
        rows = [b"".join((shared, _text(name), _bytes(payload))) for name, payload in zip(ids, payloads, strict=True)]
        return b"".join(rows)
    # Ids of one width, as those that we make: all before the payload is packed at once.
    fixed = Struct(f">{len(shared)}si{width}si").pack
    parts = [b""] * (2 * len(ids))
    parts[::2] = [
        fixed(shared, width, name.encode(), len(payload)) for name, payload in zip(ids, payloads, strict=True)
    ]
    parts[1::2] = payloads
    return b"".join(parts)


def _shared(stack: Stack, now: int) -> bytes:
    """Return the columns before the id, which all jobs of a stack share."""
    like = stack.like
    starts = now if like.run_at is None else max(now, micros(like.run_at))
    if like.delay is not None:
        starts = now + micros(max(0.0, like.delay))
    due = starts <= now
    policy = policy_of(
        like.retry, like.timeout, like.on_wait, like.unique_window, like.tags, like.headers, like.replay_of
    )
    return b"".join(
        (
            *map(_long, (starts, now, now)),
            _long(now) if due else _NULL,
            *map(_short, (QUEUED, READY) if due else (SCHEDULED, NOT_READY)),
            _short(-like.priority),
            _text(like.queue),
            _text(like.task),
            _NULL if policy is None else _bytes(policy),
        )
    )


def _long(value: int) -> bytes:
    return pack(">iq", 8, value)


def _short(value: int) -> bytes:
    return pack(">ih", 2, value)


def _text(value: str) -> bytes:
    return _bytes(value.encode())


def _bytes(value: bytes) -> bytes:
    return pack(">i", len(value)) + value
