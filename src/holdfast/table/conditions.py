"""Conditions on the state of rows: `Order.task_state == TaskState.PENDING`, `Order.task_state.in_([State.QUEUED, …])`.

A state may be named by our word or the seed's, whichever the column holds, and the condition finds all rows that are in it:
PENDING is scheduled and retrying, INIT and queued are suspects too. Where one word is stored for both scheduled and
retrying, the failures tell them apart; a condition that can not see them is refused, for it would find the wrong rows.
"""

from __future__ import annotations

from operator import eq, ne
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import String, and_, func, not_, or_
from sqlalchemy.sql.operators import in_op, not_in_op
from sqlalchemy.types import TypeDecorator

from holdfast.errors import ContentError
from holdfast.job.state import State
from holdfast.table.words import TaskState, states_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement

    from holdfast.table.words import Words

_LISTS: Final = (list, tuple, set, frozenset)


class StateComparator(TypeDecorator.Comparator[Any], String.Comparator[Any]):
    """Makes the conditions of a state's column."""

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        """Look for every word under which a state is stored."""
        given = other[0] if other else None
        if op in (eq, ne) and _is_word(given):
            return self._among([given], wanted=op is eq)
        if op in (in_op, not_in_op) and isinstance(given, _LISTS) and any(map(_is_word, given)):
            return self._among(given, wanted=op is in_op)
        return super().operate(op, *other, **kwargs)

    def _among(self, given: Iterable[Any], *, wanted: bool) -> ColumnElement[bool]:
        kind: Any = self.expr.type
        words: Words = kind.words
        exact: list[str] = []
        states: list[State] = []
        for one in given:
            if not _is_word(one):
                raise ContentError(f"task_state: expected states, found {one!r:.60} among them. Ask for it apart.")
            if str(one) in words.all and not _is_state(str(one)):
                exact.append(str(one))  # suspect, or a word that the seed has not
            else:
                states += states_of(one)
        plain, split = words.sought(states)
        if split is None:
            return self._stored([*plain, *exact], wanted)
        failed = self._failed(split)
        found = and_(self._stored([words.scheduled]), failed if split is State.RETRYING else not_(failed))
        if plain or exact:
            found = or_(found, self._stored([*plain, *exact]))
        # A row that is no task is in no state, so it is not in another one either: as with any column that is NULL.
        return found if wanted else and_(self._stored(words.all), not_(found))

    def _stored(self, words: Sequence[str], wanted: bool = True) -> ColumnElement[bool]:
        """Return the condition that the column holds one of these words, or none of them."""
        one, many = (eq, in_op) if wanted else (ne, not_in_op)
        op: Any
        op, given = (one, words[0]) if len(words) == 1 else (many, list(words))
        found: ColumnElement[bool] = super().operate(op, given)
        return found

    def _failed(self, state: State) -> ColumnElement[bool]:
        """Whether a row has failed, for the column of the same table, alias or subquery."""
        kind: Any = self.expr.type
        columns: Any = getattr(getattr(self.expr, "table", None), "c", {})
        if kind.failures not in columns:
            raise ContentError(
                f"task_state: {state} rows can not be told from other PENDING ones here, because {kind.failures!r} is not "
                "among the columns of this selectable. Add it, or ask for TaskState.PENDING."
            )
        failed: ColumnElement[bool] = func.coalesce(columns[kind.failures], 0) > 0
        return failed


def _is_word(value: object) -> bool:
    return isinstance(value, str | TaskState)


def _is_state(text: str) -> bool:
    return text in TaskState.__members__ or text in State._value2member_map_
