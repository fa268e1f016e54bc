"""What may be stored: one rule for every store, checked before a value joins a batch.

In arguments and headers these are **refused**, with the path of the fault: NUL, lone surrogates, NaN and infinities,
nesting deeper than 100, integers beyond 64 bits, and types that JSON can not carry. Some database or reader chokes on
each of them. In results, progress, data, errors and log lines the same are **replaced visibly**, so that no content can
keep an attempt from being settled.

A value is encoded first, and the bytes are searched for what a fault leaves behind; only then the value is walked.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from holdfast.errors import ContentError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Sequence

PAYLOAD_MAX: Final = 1024 * 1024
RESULT_MAX: Final = 1024 * 1024
HEADERS_MAX: Final = 64 * 1024
DATA_MAX: Final = 64 * 1024
ERROR_MAX: Final = 64 * 1024
LOG_LINES_MAX: Final = 1_000
DEPTH_MAX: Final = 100
#: What JSON numbers may hold here: every signed and unsigned integer of 64 bits.
INT_MIN, INT_MAX = -(2**63), 2**64 - 1

_UNENCODABLE: Final = (UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError)
_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_ALL_NINES: Final = bytes.maketrans(b"0123456789", b"9999999999")
_DIGITS: Final = b"0123456789"
_SHORT: Final = 18  # bytes
_LONG_NINES: Final = b"9" * 19
#: Whoever opens more than DEPTH_MAX levels has to close them too: JSON as short as this is not too deep.
_SHALLOW: Final = 2 * DEPTH_MAX
_LONG_INT: Final = re.compile(rb"[0-9]{19}")
_TOO_DEEP: Final = f"expected at most {DEPTH_MAX} levels of nesting, found more. Flatten the value."
_NOT_UNICODE: Final = "expected valid Unicode, found a lone surrogate. Send bytes, or clean the text."
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


# --- refuse --------------------------------------------------------------------------------------------------------


def encode_arguments(value: object, what: str = "arguments", limit: int = PAYLOAD_MAX) -> bytes:
    """Return `value` as JSON. `what` names it in errors; `limit` is in bytes.

    Raises ContentError with the path of the fault, TooLarge if the JSON is over the limit.

    >>> encode_arguments({"user": 42})
    b'{"user":42}'
    """
    try:
        data = _encode(value)
    except _UNENCODABLE:
        refuse_faults(value, what)
        raise  # pragma: no cover - what can not be encoded has a fault; should msgspec differ, its error is still told
    # Nothing short can be worse than a null or an escape; that is told without a call.
    if (
        (b"null" in data or b"\\u" in data or len(data) > _SHORT)
        and is_suspect(data)
        and not _is_plain_and_finite(value, data)
    ):
        refuse_faults(value, what)
    if len(data) > limit:
        raise TooLarge(what, len(data), limit, "bytes", "Store the bulk elsewhere and send its name or address.")
    return data


def encode_plain(values: Sequence[object], limit: int = PAYLOAD_MAX) -> list[bytes] | None:
    r"""Return the JSON of many values, if all are free of faults; None where one may hold a fault, or is over the limit.

    >>> encode_plain([{"user": 42}, {"user": 43}])
    [b'{"user":42}', b'{"user":43}']
    """
    try:
        lines = _encode_lines(values)
    except _UNENCODABLE:
        return None
    # What `is_suspect` asks of each, asked of all at once. No JSON of msgspec's has a line break in it.
    if b"null" in lines or b"\\u0000" in lines or _LONG_NINES in lines.translate(_ALL_NINES):
        return None
    found = lines.split(b"\n")
    found.pop()
    for data in found:
        if len(data) > _SHALLOW and (len(data) > limit or data.count(b"[") + data.count(b"{") > DEPTH_MAX):
            return None
    return found


def is_suspect(data: bytes) -> bool:
    """Tell whether JSON made by msgspec may hold a fault (NaN has become null). Errs on the side of yes."""
    return b"null" in data or _is_worse_than_null(data)


def _is_worse_than_null(data: bytes) -> bool:
    if len(data) <= _SHORT:  # too short for a large integer, or for deep nesting
        return b"\\u0000" in data
    return (
        b"\\u0000" in data
        or (len(data) > _SHALLOW and data.count(b"[") + data.count(b"{") > DEPTH_MAX)
        # Dropping the digits is several times faster than a pattern over every byte.
        or (len(data) - len(data.translate(None, _DIGITS)) >= 19 and _LONG_INT.search(data) is not None)
    )


def _is_plain_and_finite(value: object, data: bytes) -> bool:
    """Tell whether the null of `data` is None and no more. None in arguments is common; a full walk would cost more."""
    return not _is_worse_than_null(data) and _is_finite(value)


def _is_finite(value: object) -> bool:
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return True
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is dict:
        return all(map(_is_finite, value.values()))  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return all(map(_is_finite, value))  # type: ignore[call-overload]
    return False


def refuse_faults(value: object, what: str) -> None:
    """Raise ContentError with the path of the first fault in `value`; return if there is none."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
    except RecursionError:
        raise ContentError(
            f"{what}: expected at most {DEPTH_MAX} levels of nesting, found more. Flatten the value."
        ) from None
    except UnicodeEncodeError:  # pragma: no cover - msgspec 0.22 copies text unseen; one that looks would raise here
        raise ContentError(
            f"{what}: expected valid Unicode, found a lone surrogate. Send bytes or clean the text."
        ) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ContentError(
            f"{what}: expected values that JSON can carry, found one that it can not: {error}. "
            "Convert it to text, numbers, lists, dicts, a dataclass or a msgspec.Struct."
        ) from error
    path, fault = _find_fault(plain, 0) or ("", "")
    if fault:
        raise ContentError(f"{what}: at ${path}: {fault}")


def _find_fault(value: object, depth: int) -> tuple[str, str] | None:
    """Return (path below here, what is wrong and what to do), or None."""
    if isinstance(value, dict | list | tuple):
        if depth >= DEPTH_MAX:
            return "", _TOO_DEEP
        return _find_in_dict(value, depth) if isinstance(value, dict) else _find_in_list(value, depth)
    fault = _scalar_fault(value)
    return ("", fault) if fault else None


def _find_in_dict(value: dict[object, object], depth: int) -> tuple[str, str] | None:
    for key, item in value.items():
        name = key if isinstance(key, str) else str(key)
        fault = _scalar_fault(key)
        if fault:
            return f"[{name!r}]", f"as a key: {fault}"
        found = _find_fault(item, depth + 1)
        if found:
            return f".{name}{found[0]}", found[1]
    return None


def _find_in_list(value: list[object] | tuple[object, ...], depth: int) -> tuple[str, str] | None:
    for index, item in enumerate(value):
        found = _find_fault(item, depth + 1)
        if found:
            return f"[{index}]{found[0]}", found[1]
    return None


def _scalar_fault(value: object) -> str:
    if isinstance(value, str):
        if "\x00" in value:
            return "expected text without NUL characters, found one. Remove it, or send bytes."
        if _SURROGATE.search(value):
            return _NOT_UNICODE
    elif isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, found {value}. Send None or text instead."
    elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return "expected an integer of at most 64 bits, found a larger one. Send it as text."
    return ""


# --- replace -------------------------------------------------------------------------------------------------------


def encode_result(value: object, what: str = "result", limit: int = RESULT_MAX) -> bytes:
    """Return `value` as JSON, with faults of content replaced. `limit` is in bytes.

    Raises ContentError for a type that JSON can not carry, TooLarge over the limit.
    """
    try:
        data = _encode(value)
        clean = not is_suspect(data) or _is_plain_and_finite(value, data)
    except _UNENCODABLE:
        clean = False
    if not clean:
        data = _encode(_cleaned(_to_plain(value, what), 0))
    if len(data) > limit:
        raise TooLarge(what, len(data), limit, "bytes", "Store the bulk elsewhere and return its name or address.")
    return data


def _to_plain(value: object, what: str) -> object:
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except RecursionError:
        return f"[deeper than {DEPTH_MAX}]"
    except UnicodeEncodeError:  # pragma: no cover - as above
        # Only as the key of a mapping or within a type of msgspec's own; the text form is all that can be kept.
        return clean_text(safe_repr(value), ERROR_MAX)
    except Exception as error:  # noqa: BLE001 - a user's type may raise anything while it is looked at
        raise ContentError(
            f"{what}: expected a value that JSON can carry, found {type(value).__name__}: {safe_str(error)}. "
            "Return text, numbers, lists, dicts, a dataclass or a msgspec.Struct."
        ) from None


def clean_value(value: object, limit: int = RESULT_MAX) -> bytes:
    """Return `value` as JSON whatever it is: what can not be stored is replaced visibly. Never raises."""
    try:
        return encode_result(value, limit=limit)
    except TooLarge as error:
        return _encode(f"[{error.found} bytes left out: over the limit of {error.limit}]")
    except ContentError:
        return _encode(clean_text(safe_repr(value), min(limit, ERROR_MAX)))


def clean_text(text: str, limit: int) -> str:
    r"""Return `text` with NUL and lone surrogates replaced by signs, cut to about `limit` bytes of UTF-8.

    >>> clean_text("a\x00b", 100)
    'a␀b'
    """
    if "\x00" in text:
        text = text.replace("\x00", "␀")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        text = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        size = len(text.encode())
    return text if size <= limit else _cut(text, limit, size)


def _cut(text: str, limit: int, size: int) -> str:
    note = f"… [cut: {size - limit} of {size} bytes]"
    kept = text.encode()[: max(0, limit - len(note.encode()))].decode(errors="ignore")
    return kept + note if len(note.encode()) <= limit else text.encode()[:limit].decode(errors="ignore")


def _cleaned(value: object, depth: int) -> object:
    if isinstance(value, str):
        return clean_text(value, RESULT_MAX + 1)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if INT_MIN <= value <= INT_MAX else safe_str(value)
    if depth >= DEPTH_MAX:
        return f"[deeper than {DEPTH_MAX}]"
    if isinstance(value, dict):
        return {clean_text(str(key), ERROR_MAX): _cleaned(item, depth + 1) for key, item in value.items()}
    # What is left of plain values is a list or a tuple.
    return [_cleaned(item, depth + 1) for item in cast("list[object]", value)]


def encode_data(update: dict[str, Any]) -> bytes:
    """Return an `update` of a job's data as a JSON object, cleaned. Raises ContentError, and TooLarge over DATA_MAX."""
    return encode_result(update, "update", DATA_MAX)


def safe_str(value: object) -> str:
    """Return str(value), also when that raises."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a user's __str__ may raise anything; the settle must go on
        return f"<{type(value).__name__}, whose text can not be shown: {type(error).__name__}>"


def safe_repr(value: object) -> str:
    """Return repr(value), also when that raises."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(value).__name__}, which can not be shown: {type(error).__name__}>"
