"""Ids grow and do not meet; names are checked where they come in."""

import os
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chance import IdMaker
from holdfast.errors import ConfigError, ContentError
from holdfast.job.ids import check_id, check_key, check_name, check_priority, check_tags, uuid7


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_an_id_is_a_uuid_of_version_7_that_tells_its_time(milliseconds: int, random: int) -> None:
    made = uuid.UUID(uuid7(milliseconds, random))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == milliseconds


@given(st.lists(st.floats(-5, 5, allow_nan=False), min_size=2, max_size=300))
def test_the_ids_of_a_maker_grow_whatever_its_clock_does(steps: list[float]) -> None:
    times = iter([1_800_000_000.0 + step for step in steps])
    make = IdMaker(lambda: next(times))
    ids = [make() for _ in steps]
    assert ids == sorted(set(ids))


def test_a_millisecond_that_is_used_up_borrows_the_next() -> None:
    make = IdMaker(lambda: 1_800_000_000.0, draw=lambda count: b"\xff" * count)
    ids = [make() for _ in range(70_000)]
    assert ids == sorted(set(ids))
    assert len({one[:13] for one in ids}) > 1


def test_threads_that_share_a_maker_never_get_the_same_id() -> None:
    make = IdMaker(lambda: 1_800_000_000.0)
    found: list[list[str]] = [[] for _ in range(4)]

    def work(mine: list[str]) -> None:
        mine.extend(make() for _ in range(5_000))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for mine in found for one in mine}) == 20_000


def test_a_fork_does_not_repeat_the_ids_of_its_parent() -> None:
    make = IdMaker(lambda: 1_800_000_000.0)
    make()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "\n".join(make() for _ in range(100)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    mine = [make() for _ in range(100)]
    assert len(theirs) == 100
    assert set(theirs).isdisjoint(mine)


@pytest.mark.parametrize("good", ["mail", "mail.welcome", "orders/eu-1:fast", "größe", "_x", "9", "a" * 100])
def test_names_are_letters_digits_and_a_few_signs(good: str) -> None:
    assert check_name(good, "queue") == good


@pytest.mark.parametrize(
    "bad", ["", " mail", "a b", "a=b", "a,b", ".x", "-x", "a\n", "a\x00", "\ud800", "a" * 101, None, 5]
)
def test_a_bad_name_is_refused_with_what_is_allowed(bad: object) -> None:
    with pytest.raises(ConfigError, match=r"^queue: expected 1 to 100 letters, digits and .* Choose another name"):
        check_name(bad, "queue")


@pytest.mark.parametrize("bad", ["", "a\x00b", "line\nbreak", "\udfff", None, 7])
def test_a_bad_key_is_refused_with_what_to_do(bad: object) -> None:
    with pytest.raises(ContentError, match=r"^key: expected text of 1 to 512 characters .* Convert it to plain text"):
        check_key(bad)


def test_ids_and_keys_that_are_too_long_say_how_long() -> None:
    assert check_id("o" * 128)
    with pytest.raises(ContentError, match=r"id: expected at most 128 characters, found 129: .* Shorten or hash it"):
        check_id("o" * 129)
    with pytest.raises(ContentError, match="unique: expected at most 512 characters, found 600"):
        check_key("k" * 600, "unique")


def test_tags_are_sixteen_texts_at_most() -> None:
    assert check_tags(["a", "b", "a"]) == ("a", "b")
    with pytest.raises(ContentError, match=r"tags: expected at most 16, found 17. Put the rest into headers"):
        check_tags(str(number) for number in range(17))
    with pytest.raises(
        ContentError, match=r"tags: expected a list of texts, found one text 'vip'. Write tags=\['vip'\]"
    ):
        check_tags("vip")


@pytest.mark.parametrize("bad", [101, -101, 1.5, "high", True, None])
def test_a_bad_priority_is_refused_with_its_range(bad: object) -> None:
    with pytest.raises(ContentError, match=r"priority: expected a whole number from -100 to 100, .* Higher runs first"):
        check_priority(bad)


@pytest.mark.parametrize("count", [0, 1, 2, 5_000])
def test_many_ids_at_once_grow_like_single_ones(count: int) -> None:
    maker = IdMaker(lambda: 1_800_000_000.0)
    before, made, after = maker(), maker.many(count), maker()
    assert len(made) == count
    assert [before, *made, after] == sorted({before, *made, after})
