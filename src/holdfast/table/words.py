"""The seed's five words for a row's state, ours, and what stands in the column.

| stored, ours                | stored, the seed's words | State                        | TaskState |
|---|---|---|---|
| queued, suspect             | INIT, SUSPECT            | queued                       | INIT      |
| scheduled                   | PENDING (failures = 0)   | scheduled                    | PENDING   |
| retrying                    | PENDING (failures > 0)   | retrying                     | PENDING   |
| running                     | DOING                    | running                      | DOING     |
| succeeded                   | DONE                     | succeeded                    | DONE      |
| failed                      | ERROR                    | failed                       | ERROR     |
| canceled, paused            | CANCELED, PAUSED         | canceled, paused             | –         |
| NULL                        | NULL                     | the row is no task           | –         |

`suspect` is a queued row that was in a process when it died: it is claimed apart, one to a process, so that a row which
kills its process does not take the blame of the others along. It is a word of its own because a claim must find, or pass
over, such rows by the index alone.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ConfigError
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TaskState(Enum):
    """The seed's words. Each stands for one or more of our states, and equals each of them, and its own text.

    It is no `str`, so that a State which stands on the left of `==` asks it. As PENDING equals two states that differ, sets
    and keys of dicts take one kind of word: `TaskState.of(state)` and `word.states` turn one into the other.
    """

    INIT = "INIT"
    DOING = "DOING"
    DONE = "DONE"
    ERROR = "ERROR"
    PENDING = "PENDING"

    def __str__(self) -> str:
        """The word."""
        return self.value

    def __eq__(self, other: object) -> bool:
        """Whether `other` is this word, or a state under it; either may be given as text.

        >>> TaskState.DONE == State.SUCCEEDED, State.RETRYING == TaskState.PENDING, TaskState.INIT == State.RUNNING
        (True, True, False)
        """
        if isinstance(other, TaskState):
            return self is other
        if isinstance(other, str):
            return other == self.value or other in _STATES_OF[self]
        return NotImplemented

    def __hash__(self) -> int:
        """That of its text."""
        return hash(self.value)

    @property
    def states(self) -> tuple[State, ...]:
        """Our states under this word.

        >>> [state.value for state in TaskState.PENDING.states]
        ['scheduled', 'retrying']
        """
        return _STATES_OF[self]

    @classmethod
    def of(cls, state: State) -> TaskState | None:
        """The word for one of our states; None for canceled and paused, which the seed does not know.

        >>> TaskState.of(State.RUNNING).value
        'DOING'
        """
        return _WORD_OF.get(state)


_STATES_OF: Final[Mapping[TaskState, tuple[State, ...]]] = {
    TaskState.INIT: (State.QUEUED,),
    TaskState.DOING: (State.RUNNING,),
    TaskState.DONE: (State.SUCCEEDED,),
    TaskState.ERROR: (State.FAILED,),
    TaskState.PENDING: (State.SCHEDULED, State.RETRYING),
}
_WORD_OF: Final[Mapping[State, TaskState]] = {state: word for word, states in _STATES_OF.items() for state in states}


class Words(msgspec.Struct, frozen=True):
    """What stands in the column for each state; the fields are those that statements name."""

    queued: str
    suspect: str
    scheduled: str
    retrying: str
    running: str
    succeeded: str
    failed: str
    canceled: str
    paused: str

    @property
    def waiting(self) -> tuple[str, ...]:
        """The words of rows that wait for a time."""
        return tuple(dict.fromkeys((self.scheduled, self.retrying)))

    @property
    def ready(self) -> tuple[str, ...]:
        """The words of rows that may be claimed."""
        return self.queued, self.suspect

    @property
    def all(self) -> tuple[str, ...]:
        """Every word."""
        return tuple(dict.fromkeys(getattr(self, name) for name in self.__struct_fields__))

    def stored(self, state: State, *, suspect: bool = False) -> str:
        """Return the word for a state.

        >>> SEED.stored(State.RETRYING), OURS.stored(State.QUEUED, suspect=True)
        ('PENDING', 'suspect')
        """
        if suspect and state is State.QUEUED:
            return self.suspect
        word: str = getattr(self, state.value)
        return word

    def state(self, stored: object, failures: int) -> State | None:
        """Return the state of a row; None when it is no task. Raises ConfigError for a word that is none of ours.

        >>> SEED.state("PENDING", 2).value, OURS.state(None, 0)
        ('retrying', None)
        """
        if stored is None:
            return None
        states = _READ[self].get(str(stored))
        if states is None:
            raise ConfigError(
                f"task_state: expected one of {', '.join(self.all)} or NULL, found {stored!r:.60} in a row. "
                "Set __task_words__ on the model to the words that the table holds, or correct the row."
            )
        return states[1] if failures > 0 else states[0]

    def of(self, state: State | TaskState | str) -> tuple[str, ...]:
        """Return the words that a filter by `state` looks for. Raises ConfigError for what is no state."""
        return tuple(dict.fromkeys(word for one in states_of(state) for word in self._of(one)))

    def _of(self, state: State) -> tuple[str, ...]:
        return self.ready if state is State.QUEUED else (self.stored(state),)

    def sought(self, states: Iterable[State]) -> tuple[tuple[str, ...], State | None]:
        """Return the words of rows in any of `states`, and the state for which the failures must be looked at too, if any.

        That is scheduled or retrying where both have one word and only one of them is asked for.

        >>> SEED.sought([State.RETRYING, State.FAILED])
        (('ERROR',), <State.RETRYING: 'retrying'>)
        """
        asked = dict.fromkeys(states)
        split = [state for state in _WAITS if state in asked] if self.scheduled == self.retrying else []
        if len(split) == 1:
            del asked[split[0]]
        return tuple(dict.fromkeys(word for one in asked for word in self._of(one))), split[0] if len(
            split
        ) == 1 else None


_WAITS: Final = (State.SCHEDULED, State.RETRYING)
OURS: Final = Words(
    "queued", "suspect", "scheduled", "retrying", "running", "succeeded", "failed", "canceled", "paused"
)
SEED: Final = Words("INIT", "SUSPECT", "PENDING", "PENDING", "DOING", "DONE", "ERROR", "CANCELED", "PAUSED")


def _reading(words: Words) -> dict[str, tuple[State, State]]:
    """Word -> its state without failures, and with."""
    found = {words.stored(state): (state, state) for state in State}
    found[words.suspect] = (State.QUEUED, State.QUEUED)
    if words.scheduled == words.retrying:
        found[words.scheduled] = (State.SCHEDULED, State.RETRYING)
    return found


_READ: Final = {words: _reading(words) for words in (OURS, SEED)}


def states_of(state: State | TaskState | str) -> tuple[State, ...]:
    """Return our states for a state, a word of the seed, or either as text.

    >>> [state.value for state in states_of("INIT")], states_of("running")[0].value
    (['queued'], 'running')
    """
    text = str(state)
    if text in TaskState.__members__:
        return TaskState(text).states
    try:
        return (State(text),)
    except ValueError:
        raise ConfigError(
            f"state: expected one of {', '.join(State)} or {', '.join(map(str, TaskState))}, found {state!r:.60}."
        ) from None
