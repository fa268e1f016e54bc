"""Natural batching: batches form by themselves, and nobody shares another's failure."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.batch import Gatherer
from holdfast.errors import OutcomeUnknown, StoreClosed, StoreUnavailable


class Writer:
    """Writes numbers; holds each batch until it is let go; refuses what it was told to."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.bad: dict[int, Exception] = {}
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def write(self, items: list[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        for item in items:
            if item in self.bad:
                raise self.bad[item]
        return [10 * item for item in items]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_idle_caller_is_written_at_once_and_alone() -> None:
    writer = Writer()
    gatherer = Gatherer(writer.write)
    assert await gatherer.put(1) == 10
    assert await gatherer.put(2) == 20
    assert writer.batches == [[1], [2]]
    assert not gatherer.busy


async def test_callers_of_the_same_turn_share_one_write() -> None:
    writer = Writer()
    gatherer = Gatherer(writer.write)
    answers = await asyncio.gather(*(gatherer.put(n) for n in range(100)))
    assert answers == [10 * n for n in range(100)]
    assert writer.batches == [list(range(100))]


async def test_while_one_batch_is_written_the_next_gathers_and_goes_when_the_first_returns() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write)
    first = asyncio.ensure_future(gatherer.put(0))
    await turns()
    rest = [asyncio.ensure_future(gatherer.put(n)) for n in range(1, 10)]
    await turns()
    assert writer.batches == [[0]]
    writer.gate.set()
    await asyncio.gather(first, *rest)
    assert writer.batches == [[0], list(range(1, 10))]


async def test_a_failing_batch_is_repeated_item_by_item_and_each_gets_its_own_answer() -> None:
    writer = Writer()
    writer.bad[3] = ValueError("three is bad")
    gatherer = Gatherer(writer.write)
    answers = await asyncio.gather(*(gatherer.put(n) for n in range(5)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["0", "10", "20", "three is bad", "40"]
    assert writer.batches == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), OutcomeUnknown("cut")])
async def test_an_error_of_the_store_itself_goes_to_all_and_is_not_repeated(error: Exception) -> None:
    writer = Writer()
    writer.bad[0] = error
    gatherer = Gatherer(writer.write)
    answers = await asyncio.gather(*(gatherer.put(n) for n in range(5)), return_exceptions=True)
    assert answers == [error] * 5
    assert len(writer.batches) == 1


async def test_a_cancelled_caller_leaves_and_its_item_stays() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write)
    first, leaver, last = (asyncio.ensure_future(gatherer.put(n)) for n in (1, 2, 3))
    await turns()
    leaver.cancel()
    await turns()
    writer.gate.set()
    async with asyncio.timeout(60):
        assert list(await asyncio.gather(first, last)) == [10, 30]
    assert leaver.cancelled()
    assert writer.batches == [[1, 2, 3]]


async def test_what_gathers_is_bounded_by_number_and_callers_wait_in_their_order() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write, items_max=2)
    callers = [asyncio.ensure_future(gatherer.put(0))]
    await turns()
    callers += [asyncio.ensure_future(gatherer.put(n)) for n in range(1, 7)]
    await turns()
    assert gatherer.full
    writer.gate.set()
    await asyncio.gather(*callers)
    assert writer.batches == [[0], [1, 2], [3, 4], [5, 6]]


async def test_what_gathers_is_bounded_by_size() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write, size=lambda item: item, bytes_max=100)
    callers = [asyncio.ensure_future(gatherer.put(1))]
    await turns()
    callers.append(asyncio.ensure_future(gatherer.put(150)))  # alone over the bound: it goes, but nothing beside it
    await turns()
    callers.append(asyncio.ensure_future(gatherer.put(2)))
    await turns()
    assert gatherer.full
    writer.gate.set()
    await asyncio.gather(*callers)
    assert writer.batches == [[1], [150], [2]]


async def test_one_write_takes_no_more_than_batch_max() -> None:
    writer = Writer()
    gatherer = Gatherer(writer.write, batch_max=3)
    await asyncio.gather(*(gatherer.put(n) for n in range(7)))
    assert writer.batches == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_caller_that_is_cancelled_while_it_waits_for_room_takes_nobodys_turn() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write, items_max=1)
    first = asyncio.ensure_future(gatherer.put(0))
    await turns()
    second, leaver, third = (asyncio.ensure_future(gatherer.put(n)) for n in (1, 2, 3))
    await turns()
    leaver.cancel()
    writer.gate.set()
    assert list(await asyncio.gather(first, second, third)) == [0, 10, 30]


async def test_added_items_are_answered_through_the_callbacks() -> None:
    told: list[tuple[int, object]] = []
    writer = Writer()
    writer.bad[2] = ValueError("bad")
    gatherer = Gatherer(
        writer.write,
        answered=lambda items, answers: told.extend(zip(items, answers, strict=True)),
        failed=lambda item, error: told.append((item, str(error))),
    )
    for n in (1, 2, 3):
        gatherer.add(n)
    await gatherer.drain()
    assert told == [(1, 10), (2, "bad"), (3, 30)]


async def test_a_batch_gathers_on_while_each_turn_brings_more() -> None:
    writer = Writer()
    gatherer = Gatherer(writer.write, turns_max=10)
    for n in range(5):
        gatherer.add(n)
        await asyncio.sleep(0)
    await gatherer.drain()
    assert writer.batches[0] == [0, 1, 2, 3, 4]


async def test_drain_waits_for_what_was_given_before_it_and_not_for_what_comes_after() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write)
    gatherer.add(1)
    draining = asyncio.ensure_future(gatherer.drain())
    await turns()
    assert not draining.done()
    gatherer.add(2)
    writer.gate.set()
    await draining
    await gatherer.drain()
    assert writer.batches == [[1], [2]]


async def test_close_writes_what_has_gathered_and_takes_nothing_more() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write, items_max=1)
    callers = [asyncio.ensure_future(gatherer.put(n)) for n in range(3)]
    await turns()
    writer.gate.set()
    await gatherer.close()
    assert await asyncio.gather(*callers) == [0, 10, 20]
    with pytest.raises(StoreClosed, match="after close"):
        await gatherer.put(9)


async def test_abort_stops_at_once_and_says_that_the_outcome_is_unknown() -> None:
    writer = Writer(held=True)
    gatherer = Gatherer(writer.write)
    first = asyncio.ensure_future(gatherer.put(1))
    await turns()
    second = asyncio.ensure_future(gatherer.put(2))
    await turns()
    await gatherer.abort()
    for caller in (first, second):
        with pytest.raises(OutcomeUnknown):
            await caller


@settings(max_examples=60, deadline=None)
@given(
    plan=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=40),
    items_max=st.integers(1, 5),
    batch_max=st.integers(1, 5),
)
def test_every_item_is_written_once_and_every_caller_gets_its_own_answer(
    plan: list[tuple[int, bool, bool]], items_max: int, batch_max: int
) -> None:
    async def main() -> None:
        good: list[int] = []

        async def write(items: list[int]) -> list[int]:
            await asyncio.sleep(0)
            if any(plan[item][1] for item in items):
                raise ValueError("one of them is bad")
            good.extend(items)
            return items

        gatherer = Gatherer(write, items_max=items_max, batch_max=batch_max)
        callers = []
        for n, (pause, _, leaves) in enumerate(plan):
            callers.append(asyncio.ensure_future(gatherer.put(n)))
            await turns(pause)
            if leaves:
                callers[-1].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        await gatherer.close()
        for n, answer in enumerate(answers):
            if isinstance(answer, asyncio.CancelledError):
                continue
            assert (answer == n) if not plan[n][1] else isinstance(answer, ValueError)
        assert len(good) == len(set(good))

    asyncio.run(main())


# --- alone ---------------------------------------------------------------------------------------------------------


class Single(Writer):
    """The same for one number, and who wrote it."""

    def __init__(self, *, held: bool = False) -> None:
        super().__init__(held=held)
        self.alone: list[int] = []
        self.tasks: list[asyncio.Task[object] | None] = []

    async def one(self, item: int) -> int:
        self.alone.append(item)
        self.tasks.append(asyncio.current_task())
        await asyncio.sleep(0)  # as whoever waits for an answer from elsewhere
        await self.gate.wait()
        if item in self.bad:
            raise self.bad[item]
        return 10 * item

    def gatherer(self) -> Gatherer[int, int]:
        return Gatherer(self.write, alone=self.one, again=lambda item: -item)


async def test_a_caller_without_company_writes_by_itself() -> None:
    writer = Single()
    gatherer = writer.gatherer()
    assert [await gatherer.put(n) for n in range(3)] == [0, 10, 20]
    assert (writer.alone, writer.batches) == ([0, 1, 2], [])
    assert set(writer.tasks) == {asyncio.current_task()}
    assert not gatherer.busy


async def test_callers_who_come_together_again_and_again_share_each_write_but_the_first() -> None:
    writer = Single()
    gatherer = writer.gatherer()

    async def caller(number: int) -> None:
        for _ in range(5):
            assert await gatherer.put(number) == 10 * number

    await asyncio.gather(*(caller(n) for n in range(100)))
    assert len(writer.alone) == 1
    assert len(writer.batches) <= 6
    await gatherer.put(1)
    await gatherer.put(2)
    assert writer.alone[1:] == [2], "a caller who is alone again writes by itself after a batch of one"


async def test_while_one_is_written_alone_others_gather_and_its_error_is_its_own() -> None:
    writer = Single(held=True)
    gatherer = writer.gatherer()
    writer.bad[0] = ValueError("zero is bad")
    first = asyncio.ensure_future(gatherer.put(0))
    await turns()
    rest = [asyncio.ensure_future(gatherer.put(n)) for n in range(1, 5)]
    await turns()
    assert gatherer.busy
    assert writer.batches == []
    writer.gate.set()
    with pytest.raises(ValueError, match="zero"):
        await first
    assert await asyncio.gather(*rest) == [10, 20, 30, 40]
    assert writer.batches == [[1, 2, 3, 4]]


async def test_one_whose_caller_was_cancelled_is_written_again_as_it_was_told() -> None:
    writer = Single(held=True)
    gatherer = writer.gatherer()
    first = asyncio.ensure_future(gatherer.put(5))
    await turns()
    first.cancel()
    await asyncio.wait([first])
    writer.gate.set()
    await gatherer.close()
    assert (writer.alone, writer.batches) == ([5], [[-5]])


async def test_closing_waits_for_one_that_is_written_alone() -> None:
    writer = Single(held=True)
    gatherer = writer.gatherer()
    first = asyncio.ensure_future(gatherer.put(1))
    await turns()
    closing = asyncio.ensure_future(gatherer.close())
    await turns()
    assert not closing.done()
    writer.gate.set()
    await closing
    assert await first == 10
    with pytest.raises(StoreClosed):
        await gatherer.put(2)
