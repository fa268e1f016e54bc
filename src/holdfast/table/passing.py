"""What one pass over a table did, by the ids of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.worker.once import Failure, Pass

if TYPE_CHECKING:
    from holdfast.table.shape import Shape


class RowFailure(Failure, frozen=True):
    """A failed attempt of a row. final: it has given up; else it is retried after its backoff."""

    id: Any


class RowPass(Pass, frozen=True, kw_only=True):
    """What one pass did to each row, as the table has it. Ids as `get` and `reset` take them, in the order of settling."""

    done: tuple[Any, ...] = ()
    failed: tuple[RowFailure, ...] = ()
    snoozed: tuple[Any, ...] = ()
    released: tuple[Any, ...] = ()
    canceled: tuple[Any, ...] = ()
    #: The claim was over before the outcome could be stored, or the store could not be reached: somebody else's row now.
    lost: tuple[Any, ...] = ()


def rows_of(found: Pass, shape: Shape[Any]) -> RowPass:
    """Return what the worker tells by texts as what programs are given."""
    lists = {
        name: tuple(shape.id_from(one) for one in getattr(found, name))
        for name in found.__struct_fields__
        if name != "failed"
    }
    failed = tuple(RowFailure(shape.id_from(one.id), one.error, one.final) for one in found.failed)
    return RowPass(failed=failed, **lists)
