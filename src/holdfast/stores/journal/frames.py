"""What a frame of the journal holds: the facts of one atomic step. Writing them, and reading them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import StoreCorrupt, StoreError
from holdfast.job.facts import Fact, decode_facts, encode_facts
from holdfast.job.ledger.clean import clean

if TYPE_CHECKING:
    from holdfast.job.ledger import Ledger
    from holdfast.wal import Frame


_INT_MIN: Final = -(1 << 63)
_INT_MAX: Final = (1 << 64) - 1
_OVERHEAD: Final = 8  # bytes around the facts of a frame


def payloads_of(facts: list[Fact], limit: int) -> list[bytes]:
    """Encode the facts of one step: as one frame, or as several of at most `limit` bytes.

    A crash may tear several apart. Each fact leaves a sound state, and commands that are all or nothing are never so large.
    """
    payload = _encode(facts)
    if len(payload) <= limit:
        return [payload]
    payloads: list[bytes] = []
    group: list[Fact] = []
    size = _OVERHEAD
    for fact in facts:
        length = len(_encode([fact]))
        if group and size + length > limit:
            payloads.append(_encode(group))
            group, size = [], _OVERHEAD
        group.append(fact)
        size += length
    return [*payloads, _encode(group)]


def _encode(facts: list[Fact]) -> bytes:
    try:
        return encode_facts(facts)
    except (UnicodeEncodeError, OverflowError):
        # Texts and numbers are checked or cleaned where they come in. Should one have come by another way, it must not bring
        # the engine down: it is made writable here, and reads show it so from the next start on.
        return msgspec.msgpack.encode(_writable(msgspec.to_builtins(facts, builtin_types=(bytes,))))


def _writable(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return min(max(value, _INT_MIN), _INT_MAX)
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    return value


def facts_of(frame: Frame) -> list[Fact]:
    """Return the facts of a frame. Raises StoreCorrupt if it holds none, or some that this version does not know."""
    try:
        return decode_facts(frame.payload)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(
            f"frame {frame.number}: expected facts that this version of Holdfast knows, found {error}. "
            "Its checksum is right, so a newer Holdfast may have written it: start that version. Nothing was changed."
        ) from error


def apply_frame(ledger: Ledger, frame: Frame) -> list[Fact]:
    """Make the facts of a frame true; return them. Raises StoreCorrupt for facts that can not follow what was before."""
    facts = facts_of(frame)
    try:
        ledger.replay(facts)
    except (StoreError, ValueError, KeyError) as error:
        raise impossible(frame.number, error) from error
    return facts


def impossible(number: int, error: Exception) -> StoreCorrupt:
    """Say that the facts of a frame contradict the state before them."""
    return StoreCorrupt(
        f"frame {number}: expected facts that follow from those before, found: {error}. Nothing was changed. "
        "Put a backup in place, or report this with the output of `holdfast journal verify`."
    )
