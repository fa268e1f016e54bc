"""The words of states: stored, read, filtered."""

import pytest

from holdfast.errors import ConfigError
from holdfast.job.state import State
from holdfast.table.words import OURS, SEED, TaskState, Words, states_of
from tests.features import feature

each = pytest.mark.parametrize("words", [OURS, SEED], ids=["ours", "the seed's"])


@feature("G17")
@each
def test_every_state_is_stored_and_read_back(words: Words) -> None:
    for state in State:
        failures = 1 if state is State.RETRYING else 0
        assert words.state(words.stored(state), failures) is state
    assert words.state(words.stored(State.QUEUED, suspect=True), 0) is State.QUEUED
    assert words.state(None, 0) is None


@feature("G17")
def test_pending_means_retrying_once_it_has_failed() -> None:
    assert SEED.state("PENDING", 0) is State.SCHEDULED
    assert SEED.state("PENDING", 2) is State.RETRYING


@each
def test_a_word_of_another_is_refused_with_what_is_known(words: Words) -> None:
    with pytest.raises(ConfigError, match="__task_words__"):
        words.state("open", 0)


@each
def test_a_filter_by_a_word_finds_suspects_too(words: Words) -> None:
    assert set(words.of(TaskState.INIT)) == {words.queued, words.suspect}
    assert words.of(State.RUNNING) == (words.running,)
    assert set(words.of("PENDING")) == {words.scheduled, words.retrying}


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="INIT"):
        states_of("open")
