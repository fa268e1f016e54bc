"""What an attempt tells people beside its fields: its trail, its log lines, and when its worker was last heard of. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Instance, Job

_trail: Final = msgspec.json.Decoder(list[tuple[float, msgspec.Raw]])
_lines: Final = msgspec.json.Decoder(list[tuple[float, str, str]])


def with_beat(job: Job, instances: Sequence[Instance]) -> Job:
    """Return a running job whose attempt says when its worker was last heard of: by a beat, or by the claim itself.

    An attempt that has ended says so of itself.
    """
    last = job.last
    if job.state is not State.RUNNING or last is None:
        return job
    beat = next((one.heartbeat_at for one in instances if one.id == last.instance), last.started_at)
    return replace(job, last=replace(last, heartbeat_at=max(beat, last.started_at)))


def trail_of(trail: bytes) -> list[tuple[float, str]]:
    """Return the trail of an attempt: when, and what its progress was, as JSON.

    >>> trail_of(b'[[1.0,5],[2.0,{"done":7}]]')
    [(1.0, '5'), (2.0, '{"done":7}')]
    """
    return [(at, bytes(value).decode(errors="replace")) for at, value in _trail.decode(trail)] if trail else []


def lines_of(log: bytes) -> list[tuple[float, str, str]]:
    """Return the log lines of an attempt: when, level, text. Lines that others wrote in another form are left out."""
    try:
        return _lines.decode(log) if log else []
    except msgspec.DecodeError:
        return []
