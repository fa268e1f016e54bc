"""Of many idle processes only so many go to new work as there is work for, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import random

from holdfast.stores.sql.dialects.postgresql import news_from
from holdfast.stores.sql.herd import Herd, News

MAIL = frozenset({"mail"})


class Part:
    """A process: how often it was woken. place: among all of them."""

    def __init__(self, others: int, place: int) -> None:
        self.woken, self.now = 0, 0.0
        self.herd = Herd(self._wake, lambda: self.now)
        self.herd.others, self.herd.place = others, place

    def _wake(self) -> None:
        self.woken += 1


async def test_who_is_alone_goes_at_once() -> None:
    part = Part(0, 0)
    part.herd.heard(News(MAIL, 1, "a"))
    assert part.woken == 1


async def test_news_of_an_unknown_number_wake_everybody() -> None:
    part = Part(100, 1)
    part.herd.heard(News(MAIL, 0, "a"))
    part.herd.heard(News(frozenset()))
    assert part.woken == 2


async def test_with_work_for_all_nobody_waits() -> None:
    part = Part(19, 1)
    part.herd.heard(News(MAIL, 20, "a"))
    assert part.woken == 1


async def test_who_waits_stays_when_another_saw_that_nothing_is_left() -> None:
    first, second = Part(19, 20 - 0xA), Part(19, 20 - 0xA - 1)
    for part in (first, second):
        part.herd.heard(News(MAIL, 1, "a"))
    assert (first.woken, second.woken) == (1, 0), "the mark says who is first"
    marks = first.herd.before_claim(["mail", "other"])
    assert marks == ("a",)
    assert first.herd.saw_the_end(marks) == ("a",)
    assert first.herd.saw_the_end(marks) == (), "it is said once"
    second.herd.called_off(marks)
    await asyncio.sleep(0.1)  # past the moment at which it would have gone
    assert second.woken == 0


async def test_nobody_is_called_off_from_work_that_the_claim_did_not_see() -> None:
    part = Part(3, 0)
    part.herd.heard(News(MAIL, 1, "a"))
    marks = part.herd.before_claim(["mail"])
    part.herd.heard(News(MAIL, 1, "1d"))
    part.herd.heard(News(frozenset({"mail", "sms"}), 1, "2e"))
    assert marks == ("a",)
    assert part.herd.before_claim(["mail"]) == ("a", "1d")
    part.herd.called_off(marks)
    async with asyncio.timeout(10):
        while part.woken < 2:  # noqa: ASYNC110 - timers of the loop's
            await asyncio.sleep(0.001)


async def test_each_of_them_is_first_for_some_marks_and_as_many_go_as_there_are_jobs() -> None:
    for jobs in (1, 3):
        for mark in range(40):
            parts = [Part(19, place) for place in range(20)]
            for part in parts:
                part.herd.heard(News(MAIL, jobs, f"{mark:x}"))
            assert sum(part.woken for part in parts) == jobs
            assert parts[-mark % 20].woken == 1
            for part in parts:
                part.herd.stop()


async def test_they_go_further_apart_where_it_takes_long_to_hear_that_nothing_is_left() -> None:
    loop, part = asyncio.get_running_loop(), Part(1, 0)

    def wait() -> float:
        part.herd.heard(News(MAIL, 1, "1"))
        return part.herd._timers["1"].when() - loop.time()

    quick = wait()
    for _ in range(20):
        part.herd.called_off(["1"])
        part.herd.heard(News(MAIL, 1, "1"))
        part.now += 0.02
    part.herd.called_off(["1"])
    assert quick < 0.01 < 0.03 < wait()
    part.herd.stop()


async def test_marks_that_nobody_calls_off_are_forgotten_in_the_end() -> None:
    chance = random.Random(1)
    part = Part(5, 3)
    for _ in range(1_000):
        part.herd.heard(News(MAIL, 1, f"{chance.getrandbits(40):x}"))
    assert len(part.herd.before_claim(["mail"])) <= 64
    part.herd.stop()
    assert part.herd.before_claim(["mail"]) == ()


def test_news_are_read_as_they_are_written() -> None:
    assert news_from("c") == ("c", (), None)
    assert news_from("r0,,") == ("", (), News(frozenset(), 0, ""))
    assert news_from("eda,b;r2,c,x\ny") == ("e", ("a", "b"), News(frozenset({"x", "y"}), 2, "c"))
    assert news_from("r1,m,dead,letters") == ("", (), News(frozenset({"dead,letters"}), 1, "m"))
