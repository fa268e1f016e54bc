"""Storing a batch while others may be storing the same rows: looked at again until it is clear who was first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import IntegrityError

from holdfast.errors import StoreUnavailable

if TYPE_CHECKING:
    from holdfast.errors import DuplicateRow
    from holdfast.table.creating import Created, Creation
    from holdfast.table.gate import Gate

RACES_MAX: Final = 5


async def store(gate: Gate, creation: Creation[Any]) -> list[Created]:
    """Store a batch in a transaction of its own. Raises DuplicateRow unless it reports, and what the database refuses."""
    for _ in range(RACES_MAX):
        try:
            return await gate.run(creation.store)
        except IntegrityError as error:
            look_at(await gate.run(creation.who_is_there, write=False), creation, error)
    raise again()


def store_sync(gate: Gate, creation: Creation[Any]) -> list[Created]:
    """The same for code without a loop."""
    for _ in range(RACES_MAX):
        try:
            return gate.run_sync(creation.store)
        except IntegrityError as error:
            look_at(gate.run_sync(creation.who_is_there, write=False), creation, error)
    raise again()


def look_at(taken: DuplicateRow | None, creation: Creation[Any], error: IntegrityError) -> None:
    """Raise what the refusal was, unless the batch may be tried again: its next look finds the rows of the others."""
    if taken is None:
        raise error  # a constraint of the user's own
    if not creation.reports:
        raise taken from None


def again() -> StoreUnavailable:
    """Return the error for those who were always second."""
    return StoreUnavailable("create: other transactions stored the same ids again and again. Try again.")
