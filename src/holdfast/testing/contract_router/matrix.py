"""The eleven scripts of the seed as one table: each verb from each former link, with what was mended.

A row: the former link, the call, then (ok, current, previous), how the epoch moved, and the link that stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import pytest

from holdfast.router import PERMANENT, LinkAnswer, Owner
from holdfast.testing.contract_router.harness import NS, SERVICE, UID, RouterHarness, RouterSuite, feature

Call = Callable[[RouterHarness], Awaitable[LinkAnswer]]
#: How long a temporary link of the table has: "a" before the call, "b" in the call.
A, B = 1_000.0, 2_000.0


class Row(NamedTuple):
    """One cell of the table. left: seconds of the link that stands; None permanent, 0 no link."""

    name: str
    before: tuple[int, float] | None
    call: Call
    answer: tuple[bool, int | None, int | None]
    epoch: str
    left: float | None


def _with_id(pod: int, seconds: float) -> Call:
    return lambda h: h.x.remove_linked_pod_with_id(NS, UID, SERVICE, seconds, Owner(pod))


def _links(verb: str, call: Callable[[RouterHarness, int, float], Awaitable[LinkAnswer]], steals: str) -> list[Row]:
    """The rows of a verb that links. steals: "all", "temporary" (when permanent is asked), or "none"."""
    rows = []
    for asked, left in ((PERMANENT, None), (B, B)):
        word = "permanent" if left is None else "temporary"

        def do(h: RouterHarness, seconds: float = asked) -> Awaitable[LinkAnswer]:
            return call(h, 0, seconds)

        rows.append(Row(f"{verb} {word} where there is none", None, do, (True, 0, None), "new", left))
        for had, had_left in ((PERMANENT, None), (A, A)):
            former = "permanent" if had_left is None else "temporary"
            kept = (left if had_left is not None else None) if verb != "set" else left
            rows.append(Row(f"{verb} {word} over its own {former}", (0, had), do, (True, 0, 0), "same", kept))
            may = steals == "all" or (steals == "temporary" and left is None and had_left is not None)
            answer = (True, 0, 7) if may else (False, 7, 7)
            epoch, stands = ("new", left) if may else ("same", had_left)
            rows.append(Row(f"{verb} {word} over another's {former}", (7, had), do, answer, epoch, stands))
    return rows


def _removals() -> list[Row]:
    rows = []
    for had, word in ((PERMANENT, "permanent"), (A, "temporary")):
        grace = min(B, had) if had != PERMANENT else B
        for name, pod in (("remove", None), ("remove with its id", 3)):
            now = _with_id(3, PERMANENT) if pod else lambda h: h.remove()
            later = _with_id(3, B) if pod else lambda h: h.remove(B)
            rows.append(Row(f"{name} a {word} one now", (3, had), now, (True, None, 3), "same", 0))
            rows.append(Row(f"{name} a {word} one after a grace", (3, had), later, (True, 3, 3), "same", grace))
        left = None if had == PERMANENT else A
        for seconds, how in ((PERMANENT, "now"), (B, "after a grace")):
            other = _with_id(4, seconds)
            rows.append(
                Row(f"remove with another's id a {word} one {how}", (3, had), other, (False, 3, 3), "same", left)
            )
    gone: list[tuple[str, Call]] = [
        ("remove", lambda h: h.remove()),
        ("remove after a grace", lambda h: h.remove(B)),
        ("remove with id", _with_id(3, PERMANENT)),
        ("remove with id after a grace", _with_id(3, B)),
    ]
    rows += [Row(f"{name} where there is none", None, call, (False, None, None), "none", 0) for name, call in gone]
    return rows


TABLE: Final = [
    *_links("set", lambda h, pod, seconds: h.set(pod, seconds), "all"),
    *_links("try-set", lambda h, pod, seconds: h.try_set(pod, seconds), "temporary"),
    *_links("set-if-absent", lambda h, pod, seconds: h.absent(pod, seconds), "none"),
    *_removals(),
]


class Matrix(RouterSuite):
    """The table, row by row; pod 0 is a pod in all of it."""

    @feature("S5", "S6", "S7", "S8", "S10", "S11", "S12", "A24", "SW1", "SW2", "SW3", "SW4")
    @pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
    async def test_a24_every_verb_over_every_former_link_answers_and_leaves_what_the_table_says(
        self, h: RouterHarness, row: Row
    ) -> None:
        before = 0
        if row.before is not None:
            before = (await h.set(*row.before)).epoch
        answer = await row.call(h)
        assert (answer.ok, answer.current, answer.previous) == row.answer
        assert (answer.epoch > before) if row.epoch == "new" else (answer.epoch == before)
        assert answer.changed is (answer.ok and (row.epoch == "new" or answer.current is None))
        link = await h.get()
        persistent = await h.x.get_linked_pod_if_persist(NS, UID, SERVICE)
        services = await h.x.get_link_service(NS, UID)
        if row.left == 0:
            assert (link, persistent, services) == (None, None, {})
            return
        assert link is not None
        assert (link.pod, link.epoch) == (row.answer[1], answer.epoch)
        if row.left is None:
            assert link.seconds_left is None
            assert persistent == link
            assert services == {SERVICE: link.pod}
        else:
            assert link.seconds_left is not None
            # Real time passes while a test runs; the next shorter time in the table is far away.
            assert row.left - 400 < link.seconds_left <= row.left
            assert (persistent, services) == (None, {})
