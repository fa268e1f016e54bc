"""Rows that somebody else has written, and that are no jobs any more: what can be read of them, and what can not. Pure.

Bad data must not stop a queue, nor a list, nor the rescue of others. So a row that can not be read is taken for the job that
the rest of it tells, with the usual value where there is none; what stood there is kept beside the job's data, for a person.
A claim does not give such a job to a worker, for it is not what was asked for: see apart.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.model import Attempt
from holdfast.job.state import End, State
from holdfast.stores.sql.rows import (
    CODES,
    ELSEWHERE,
    Policy,
    Rest,
    Tail,
    attempt_from,
    body_from,
    body_of,
    job_from,
)
from holdfast.stores.sql.schema import DONE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row

#: What reading a row raises that is not as we write it.
UNREADABLE: Final = (
    msgspec.MsgspecError,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
#: The key beside a job's data under which stands what could not be read.
DAMAGED: Final = "damaged_row"
#: How many bytes of a column are kept.
_KEPT: Final = 2_048

_TEXTS: Final = ("id", "queue", "task", "worker", "version")
_TEXTS_OR_NONE: Final = ("lane_key", "uniq", "sticky", "instance")
_NUMBERS_OR_NONE: Final = ("pod", "queued_at", "started_at", "finished_at", "deleted_at")
_ENCODED: Final[dict[str, type]] = {"policy": Policy, "rest": Rest, "tail": Tail}


def job_of(row: Row) -> Job:
    """Return the job of a row of JOB_COLUMNS or DONE_COLUMNS, as far as it can be read."""
    return read_row(row)[0]


def read_row(row: Row) -> tuple[Job, str]:
    """Return the job of such a row, and in words what of it can not be read; "" for a sound one."""
    try:
        return job_from(row), ""
    except UNREADABLE:
        return _salvaged(row)


def _salvaged(row: Row) -> tuple[Job, str]:
    names = DONE_COLUMNS[: len(row)]
    values = dict(zip(names, row, strict=True))
    faults = {name: values[name] for name in names if not _is_sound(name, values)}
    for name in faults:
        values[name] = _usual(name, values)
    why = "; ".join(f"{name} holds {shown(value)}" for name, value in faults.items())
    rest = values["rest"]
    kept = body_from(rest, Rest) if rest is not None else Rest()
    values["rest"] = body_of(msgspec.structs.replace(kept, data=_with(kept.data, why)))
    return job_from(tuple(values[name] for name in names)), why


def attempts_from(rows: Sequence[Row]) -> dict[int, list[Attempt]]:
    """Return the attempts of (seq, number, body), those that can not be read as lost ones that say so."""
    found: dict[int, list[Attempt]] = {}
    for seq, number, body in rows:
        try:
            attempt = attempt_from(bytes(body))
        except UNREADABLE:
            told = f"the stored attempt can not be read: it holds {shown(body)}"
            attempt = Attempt(number, 0, "", "", 0.0, end=End.LOST, error_type="DamagedRow", error=told)
        found.setdefault(seq, []).append(attempt)
    return found


def _is_sound(name: str, values: dict[str, Any]) -> bool:
    value = values[name]
    if name == "state":
        return value in CODES.values() or (isinstance(value, int) and value - ELSEWHERE in CODES.values())
    if name in _ENCODED:
        return value is None or _reads(value, _ENCODED[name])
    if name in ("payload", "result"):
        return isinstance(value, bytes | bytearray | memoryview) or (name == "result" and value is None)
    if name in _TEXTS or name in _TEXTS_OR_NONE:
        return isinstance(value, str) or (value is None and name in _TEXTS_OR_NONE)
    if name == "duration":
        return value is None or isinstance(value, int | float)
    if name == "started_at" and value is None and values["instance"] is not None:
        return False  # an attempt began at some time
    return isinstance(value, int) or (value is None and (name in _NUMBERS_OR_NONE))


def _reads(value: Any, kind: type) -> bool:
    try:
        body_from(bytes(value), kind)
    except UNREADABLE:
        return False
    return True


def _usual(name: str, values: dict[str, Any]) -> Any:
    """Return what a column holds when nobody says otherwise; of a text what can be read of it."""
    value = values[name]
    if name == "state":
        return CODES[State.PAUSED if values.get("finished_at") is None else State.FAILED]
    if name == "payload":
        return value.encode("utf-8", "replace") if isinstance(value, str) else b"{}"
    if name in _TEXTS:
        return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if name == "started_at":
        return 0
    if name in _ENCODED or name in _TEXTS_OR_NONE or name in _NUMBERS_OR_NONE or name in ("duration", "result"):
        return None
    return 0


def shown(value: Any) -> str:
    """Return a value of a column for people to read: bytes in hexadecimal, and no more of it than they look at."""
    if isinstance(value, bytes | bytearray | memoryview):
        whole = bytes(value)
        return f"{len(whole)} bytes (hex {whole[:_KEPT].hex()}{'…' if len(whole) > _KEPT else ''})"
    return f"{value!r:.200} of type {type(value).__name__}"


def _with(data: bytes, why: str) -> bytes:
    """Return a job's data with what could not be read; data that are no object give way to it."""
    try:
        known = msgspec.json.decode(data, type=dict[str, msgspec.Raw]) if data else {}
    except UNREADABLE:
        known = {}
    return msgspec.json.encode({**known, DAMAGED: why})
