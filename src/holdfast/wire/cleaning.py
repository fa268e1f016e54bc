"""What a worker reports must never fail to be sent: texts that are no Unicode are written out, odd waits made sane."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from holdfast.job.commands import Ending, Failed, Released, Snoozed
from holdfast.job.ledger.clean import clean, wait_seconds

T = TypeVar("T")


def cleaned(value: T) -> T:
    """Return a value of structs, lists and texts with lone surrogates written out. The value itself when there are none."""
    return _cleaned(value)  # type: ignore[no-any-return]  # it keeps the type of what it is given


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        found = clean(value)
        return value if found == value else found
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in fields.items() if (new := _cleaned(old)) is not old}
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, tuple | list):
        items = [_cleaned(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return value


def sane(ending: Ending) -> Ending:
    """Return an ending whose wait is a number that JSON and a clock can hold."""
    match ending:
        case Snoozed() | Released():
            return msgspec.structs.replace(ending, delay=wait_seconds(ending.delay))
        case Failed(retry_in=float() as wait):
            return msgspec.structs.replace(ending, retry_in=wait_seconds(wait))
        case _:
            return ending
