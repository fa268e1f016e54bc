"""Searches by text: a window of time, a bound on what a page looks at, a cursor to go on."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ContentError
from holdfast.job.commands import Cancel, JobFilter, Order, Page, Pause, Selection, Succeeded
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness


class Searches(StoreSuite):
    """A search by text: within a window of time, and so many jobs a page."""

    async def search(self, h: StoreHarness, scan: int, **fields: Any) -> tuple[list[str], list[int]]:
        """Turn the pages of a search; return what was found, and how many rows each page had."""
        ids, sizes = list[str](), list[int]()
        order = {name: fields.pop(name) for name in ("newest_first", "by_end") if name in fields}
        page = Page(limit=2, scan=scan, **order)
        while True:
            found = await h.store.find(JobFilter(**fields), page)
            ids += [job.id for job in found.items]
            sizes.append(len(found.items))
            if not found.cursor:
                return ids, sizes
            page = Page(limit=2, scan=scan, cursor=found.cursor, **order)

    @feature("HW18")
    async def test_a_text_is_looked_for_in_jobs_of_the_last_day_unless_told(self, h: StoreHarness) -> None:
        old = (await h.add(id="old", payload=b'{"n":"needle"}')).created_at
        h.advance(86_000.0)
        await h.add(id="new", payload=b'{"n":"needle"}')
        assert await self.search(h, 100, text="needle") == (["new", "old"], [2])
        h.advance(1_000.0)
        assert (await self.search(h, 100, text="needle"))[0] == ["new"]
        assert await h.store.count(JobFilter(text="needle")) == 1
        assert (await self.search(h, 100, text="needle", created_after=old))[0] == ["new", "old"]
        assert await h.store.count(JobFilter(text="needle", created_after=old)) == 2
        assert (await self.search(h, 100, text="needle", created_before=old + 10.0))[0] == ["old"]
        assert (await self.search(h, 100, text="needle", id="old"))[0] == ["old"]

    @feature("HW18")
    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("by_end", [False, True])
    async def test_a_page_looks_at_so_many_jobs_and_its_cursor_goes_on(
        self, h: StoreHarness, newest_first: bool, by_end: bool
    ) -> None:
        made = [await h.add(payload=b'{"n":%d}' % (number % 7)) for number in range(14)]
        for claim in await h.claim(14) if by_end else ():
            h.advance(1.0)
            await h.settle(claim, Succeeded(b"1"))
        wanted = [job.id for job in made[5::7]]
        ids, sizes = await self.search(h, 3, text='"n":5', newest_first=newest_first, by_end=by_end)
        assert ids == (wanted[::-1] if newest_first else wanted)
        assert len(sizes) >= 4
        assert 0 in sizes  # nothing was found there, and the search goes on
        assert await h.store.count(JobFilter(text='"n":5')) == 2

    async def test_a_search_ends_behind_jobs_that_are_all_older_than_its_window(self, h: StoreHarness) -> None:
        for _ in range(12):
            await h.add(payload=b'{"n":"needle"}')
        h.advance(100_000.0)
        young = await h.add(payload=b'{"n":"needle"}')
        for fields in ({}, {"queue": h.queue, "states": (State.QUEUED,)}):
            ids, sizes = await self.search(h, 3, text="needle", **fields)
            assert (ids, len(sizes) <= 2) == ([young.id], True)

    async def test_an_action_by_a_text_is_for_the_jobs_that_a_search_shows(self, h: StoreHarness) -> None:
        old = await h.add(payload=b'{"n":"needle"}')
        h.advance(90_000.0)
        young = await h.add(payload=b'{"n":"needle"}')
        which = Selection(filter=JobFilter(text="needle"))
        assert (await h.store.control(Order(action=Cancel(), selection=which, preview=True))).matched == 1
        done = await h.store.control(Order(action=Cancel(), selection=which, who="ann"))
        assert (done.matched, done.done) == (1, 1)
        assert [(await h.job(one.id)).state for one in (old, young)] == [State.QUEUED, State.CANCELED]

    @pytest.mark.parametrize("scan", [0, -1, 10_001])
    async def test_a_page_looks_at_one_to_ten_thousand(self, h: StoreHarness, scan: int) -> None:
        with pytest.raises(ContentError, match="scan"):
            await h.store.find(JobFilter(text="x"), Page(scan=scan))

    @pytest.mark.parametrize("payload", [b'{"user":{"n":7},"l":[1,"a, b"]}', b'{"user": {"n": 7}, "l": [1, "a, b"]}'])
    async def test_a_text_is_found_however_its_json_is_spaced(self, h: StoreHarness, payload: bytes) -> None:
        await h.add(id="it", payload=payload)
        await h.add(id="other", payload=b'{"user":{"n":70},"l":[1,"a,b"]}')
        for text in (
            '"n":7}',
            '"n": 7}',
            '"n":7},"l":[1',
            '"n": 7}, "l": [1',
            '"a, b"',
            '1,"a, b"',
            "a, b",
            '"n":',
            '"n": ',
        ):
            found = await h.store.find(JobFilter(text=text), Page())
            wanted = ["other", "it"] if text.strip() == '"n":' else ["it"]
            assert [job.id for job in found.items] == wanted, text
            assert await h.store.count(JobFilter(text=text)) == len(wanted)

    async def test_a_tag_is_looked_for_as_a_text_is(self, h: StoreHarness) -> None:
        old = await h.add(id="old", tags=("vip",))
        h.advance(90_000.0)
        for number in range(7):
            await h.add(id=f"new-{number}", tags=("vip",) if number % 3 == 0 else ("vipers",))
        ids, sizes = await self.search(h, 2, tag="vip")
        assert (ids, len(sizes) >= 3) == (["new-6", "new-3", "new-0"], True)
        assert (await self.search(h, 100, tag="vip", created_after=old.created_at))[0][-1] == "old"
        assert (await self.search(h, 100, tag="vip", id="old"))[0] == ["old"]
        assert await h.store.count(JobFilter(tag="vip")) == 3

    async def test_who_paused_is_looked_for_in_all_that_are_paused_page_by_page(self, h: StoreHarness) -> None:
        made = [await h.add() for _ in range(6)]
        h.advance(90_000.0)
        for number, job in enumerate(made):
            await h.order(Pause(), job.id, who="ann" if number % 3 == 0 else "annabel")
        waiting = await h.add_many(3)
        ids, sizes = await self.search(h, 2, paused_by="ann")
        assert (ids, 0 in sizes[:-1] or len(sizes) > 2) == ([made[3].id, made[0].id], True)
        assert await h.store.count(JobFilter(paused_by="ann")) == 2
        assert await self.search(h, 100, paused_by="ann", states=(State.QUEUED,)) == ([], [0])
        assert (await self.search(h, 100, paused_by=""))[0] == [job.id for job in waiting[::-1]]

    async def test_a_count_of_a_search_looks_at_so_many_jobs_and_tells_about_how_many_of_more(
        self, h: StoreHarness
    ) -> None:
        for number in range(40):
            await h.add(payload=b'{"n":%d}' % (number % 2))
            h.advance(1.0)
        found = await h.store.count(JobFilter(text='"n":1'))
        assert (found, found.estimated) == (20, False)
        h.count_exactly(10)
        found = await h.store.count(JobFilter(text='"n":1'))
        assert found.estimated
        assert 15 <= found <= 25
        few = await h.store.count(JobFilter(text='"n":1', queue="nowhere"))
        assert (few, few.estimated) == (0, False)
