"""What links do beyond the table: time, take-over, epochs, batches, storms, the index of a pod, bad input."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import ContentError, RouterDataError
from holdfast.router import PERMANENT, SECONDS_MAX, LinkAnswer, Owner, Want
from holdfast.testing.contract_router.harness import (
    NS,
    SERVICE,
    UID,
    RouterHarness,
    RouterSuite,
    feature,
    link_answer,
)

CALLERS = 100
BAD_NAMES = ("", "   ", "a}b", "a\nb", "a\x00b", "x" * 513, None, 7)


class Links(RouterSuite):
    """Links."""

    # --- time

    @feature("S5", "A26")
    async def test_a26_a_temporary_link_expires_and_a_permanent_one_survives(self, h: RouterHarness) -> None:
        await h.x.set_linked_pod(NS, "brief", SERVICE, Owner(0), h.brief)
        await h.x.set_linked_pod(NS, "for good", SERVICE, Owner(0), PERMANENT)
        await h.pass_time(h.brief * 1.5)
        assert await h.x.get_linked_pod(NS, "brief", SERVICE) is None
        assert await h.x.links(NS, ["brief", "for good"], SERVICE) == {
            "for good": await h.x.get_linked_pod(NS, "for good", SERVICE)
        }

    @feature("SW3")
    async def test_a_removed_link_stays_for_its_grace_and_no_longer(self, h: RouterHarness) -> None:
        await h.set(3)
        assert (await h.remove(h.brief)).ok
        link = await h.get()
        assert link is not None
        assert not link.permanent
        await h.pass_time(h.brief * 1.5)
        assert await h.get() is None

    async def test_an_expired_link_is_taken_under_a_higher_epoch(self, h: RouterHarness) -> None:
        first = await h.absent(1, h.brief)
        await h.pass_time(h.brief * 1.5)
        second = await h.absent(2, h.long)
        assert (second.ok, second.current, second.previous) == (True, 2, None)
        assert second.epoch > first.epoch

    @feature("SW4")
    async def test_an_owner_that_asks_again_never_shortens_its_link(self, h: RouterHarness) -> None:
        await h.absent(1, h.long)
        for call in (h.absent, h.try_set):
            assert (await call(1, h.brief)).ok
            link = await h.get()
            assert link is not None
            assert link.seconds_left is not None
            assert link.seconds_left > h.long / 2

    # --- who is the owner

    @feature("S6", "A25")
    async def test_a25_of_a_hundred_callers_one_wins_and_all_are_told_the_same_owner(self, h: RouterHarness) -> None:
        for seconds in (PERMANENT, h.long):
            uid = f"storm {seconds}"
            answers = await asyncio.gather(
                *(h.x.try_set_linked_pod(NS, uid, SERVICE, Owner(pod), seconds) for pod in range(CALLERS))
            )
            _one_winner(answers)

    @feature("S10")
    async def test_of_a_hundred_callers_that_find_no_link_one_makes_it(self, h: RouterHarness) -> None:
        answers = await asyncio.gather(*(h.absent(pod, h.long) for pod in range(CALLERS)))
        _one_winner(answers)

    async def test_of_a_hundred_callers_that_found_an_owner_dead_one_takes_over(self, h: RouterHarness) -> None:
        dead = await h.set(7, PERMANENT, "dead")
        answers = await asyncio.gather(
            *(h.try_set(pod, h.long, f"i{pod}", replaces=dead.epoch) for pod in range(CALLERS))
        )
        _one_winner(answers)
        assert answers[0].epoch > dead.epoch

    async def test_a_pod_that_restarted_is_another_owner(self, h: RouterHarness) -> None:
        first = await h.absent(3, h.long, "old")
        refused = await h.absent(3, h.long, "new")
        assert (refused.ok, refused.instance, refused.epoch) == (False, "old", first.epoch)
        taken = await h.try_set(3, h.long, "new", replaces=first.epoch)
        assert (taken.ok, taken.instance, taken.changed) == (True, "new", True)
        assert not (await h.try_set(3, h.long, "new", replaces=first.epoch)).changed
        assert taken.epoch > first.epoch

    @feature("SW5")
    async def test_only_the_link_that_was_found_is_replaced(self, h: RouterHarness) -> None:
        found = await h.set(1)
        moved = await h.set(2)
        late = await h.try_set(3, PERMANENT, replaces=found.epoch)
        assert (late.ok, late.current, late.epoch) == (False, 2, moved.epoch)

    @feature("SW5")
    async def test_every_change_of_owner_raises_the_epoch_and_nothing_else_does(self, h: RouterHarness) -> None:
        epochs = [(await h.set(pod, h.long)).epoch for pod in (1, 1, 2, 2, 1)]
        assert epochs[0] == epochs[1] < epochs[2] == epochs[3] < epochs[4]
        await h.remove()
        assert (await h.set(1, h.long)).epoch > epochs[4]

    async def test_a_new_epoch_is_above_the_floor_also_for_the_owner_itself(self, h: RouterHarness) -> None:
        first = await h.absent(1, h.long)
        floor = first.epoch + 1_000_000_000
        again = await h.x.set_linked_pod_if_absent(NS, UID, SERVICE, Owner(1), h.long, floor=floor)
        assert again.ok
        assert again.epoch > floor
        link = await h.get()
        assert link is not None
        assert link.epoch == again.epoch

    @feature("S12")
    async def test_one_incarnation_does_not_remove_the_link_of_another(self, h: RouterHarness) -> None:
        await h.set(3, PERMANENT, "new")
        refused = await h.x.remove_linked_pod_with_id(NS, UID, SERVICE, PERMANENT, Owner(3, "old"))
        assert (refused.ok, refused.instance) == (False, "new")
        assert (await h.x.remove_linked_pod_with_id(NS, UID, SERVICE, PERMANENT, Owner(3, "new"))).ok

    # --- many

    @feature("S13", "SW15")
    async def test_a_batch_is_grouped_by_pod_and_leaves_out_who_has_no_link(self, h: RouterHarness) -> None:
        for uid, pod in (("a", 0), ("b", 1), ("c", 0)):
            await h.x.set_linked_pod(NS, uid, SERVICE, Owner(pod), h.long)
        assert await h.x.batch_get_linked_pod(NS, ["c", "nobody", "a", "b"], SERVICE) == {0: ["c", "a"], 1: ["b"]}
        assert await h.x.batch_get_linked_pod(NS, [], SERVICE) == {}

    async def test_many_links_are_made_at_once_and_each_stands_alone(self, h: RouterHarness) -> None:
        taken = await h.x.set_linked_pod(NS, "taken", SERVICE, Owner(9), PERMANENT)
        dead = await h.x.set_linked_pod(NS, "dead", SERVICE, Owner(9), PERMANENT)
        floor = taken.epoch + 5_000_000_000
        wanted = {uid: Want(Owner(1, "i1"), floor) for uid in ("a", "taken", "b")}
        wanted["dead"] = Want(Owner(1, "i1"), replaces=dead.epoch)
        answers = await h.x.link_pods(NS, SERVICE, wanted, h.long)
        told = {uid: link_answer(answer) for uid, answer in answers.items()}
        assert [(uid, answer.ok, answer.current) for uid, answer in told.items()] == [
            ("a", True, 1),
            ("taken", False, 9),
            ("b", True, 1),
            ("dead", True, 1),
        ]
        assert told["a"].epoch > floor
        assert await h.x.link_pods(NS, SERVICE, {}, h.long) == {}

    @feature("S9")
    async def test_the_services_of_a_user_are_its_permanent_links(self, h: RouterHarness) -> None:
        await h.x.set_linked_pod(NS, UID, "b", Owner(0), PERMANENT)
        await h.x.set_linked_pod(NS, UID, "a", Owner(2), PERMANENT)
        await h.x.set_linked_pod(NS, UID, "c", Owner(3), h.long)
        await h.x.set_linked_pod("other", UID, "d", Owner(4), PERMANENT)
        assert await h.x.get_link_service(NS, UID) == {"a": 2, "b": 0}
        await h.x.set_linked_pod(NS, UID, "a", Owner(2), h.long)
        assert await h.x.get_link_service(NS, UID) == {"b": 0}

    async def test_a_service_namespace_and_user_have_links_of_their_own(self, h: RouterHarness) -> None:
        places = [("n", "u", "s"), ("n2", "u", "s"), ("n", "u2", "s"), ("n", "u", "s2"), ("n", "u:s", "s")]
        for pod, (ns, uid, service) in enumerate(places):
            await h.x.set_linked_pod(ns, uid, service, Owner(pod), PERMANENT)
        for pod, (ns, uid, service) in enumerate(places):
            link = await h.x.get_linked_pod(ns, uid, service)
            assert link is not None
            assert link.pod == pod

    @feature("S8", "A26", "SW6")
    async def test_a26_the_users_of_a_pod_are_listed_as_their_links_say_now(self, h: RouterHarness) -> None:
        for number in range(30):
            await h.x.set_linked_pod(NS, f"u{number}", SERVICE, Owner(1), PERMANENT)
        await h.x.set_linked_pod(NS, "u0", SERVICE, Owner(2), PERMANENT)
        await h.x.remove_linked_pod(NS, "u1", SERVICE, PERMANENT)
        await h.x.set_linked_pod(NS, "u2", SERVICE, Owner(1), h.brief)
        await h.x.try_set_linked_pod(NS, "u3", SERVICE, Owner(2), PERMANENT)
        await h.pass_time(h.brief * 1.5)
        assert sorted(await h.x.users_of_pod(NS, SERVICE, 1)) == sorted(f"u{number}" for number in range(3, 30))
        assert await h.x.users_of_pod(NS, SERVICE, 2) == ["u0"]
        assert await h.x.users_of_pod(NS, SERVICE, 3) == []
        assert len(await h.x.users_of_pod(NS, SERVICE, 1, limit=5)) == 5

    # --- bad input

    @feature("SW14")
    @pytest.mark.parametrize("bad", BAD_NAMES, ids=[repr(bad)[:12] for bad in BAD_NAMES])
    async def test_a_name_that_can_not_be_is_refused(self, h: RouterHarness, bad: str) -> None:
        for ns, uid, service in ((bad, UID, SERVICE), (NS, bad, SERVICE), (NS, UID, bad)):
            with pytest.raises(ContentError):
                await h.x.set_linked_pod(ns, uid, service, Owner(1), PERMANENT)
            with pytest.raises(ContentError):
                await h.x.get_linked_pod(ns, uid, service)
            with pytest.raises(ContentError):
                await h.x.links(ns, [uid], service)

    async def test_a_namespace_with_a_colon_is_refused(self, h: RouterHarness) -> None:
        with pytest.raises(ContentError, match="colon"):
            await h.x.get_linked_pod("a:b", UID, SERVICE)

    @pytest.mark.parametrize("pod", [-1, 1.5, True, "1", None, 10_000_000])
    async def test_what_is_no_pod_is_refused(self, h: RouterHarness, pod: int) -> None:
        for call in (h.set, h.try_set, h.absent):
            with pytest.raises(ContentError, match="pod"):
                await call(pod)
        with pytest.raises(ContentError, match="pod"):
            await h.x.users_of_pod(NS, SERVICE, pod)

    @pytest.mark.parametrize("seconds", [0, -2, -0.5, 0.0001, SECONDS_MAX * 2, float("nan"), "60", None, True])
    async def test_a_time_that_is_neither_permanent_nor_positive_is_refused(
        self, h: RouterHarness, seconds: float
    ) -> None:
        for call in (h.set, h.try_set, h.absent):
            with pytest.raises(ContentError, match="persist_seconds"):
                await call(1, seconds)
        with pytest.raises(ContentError, match="persist_seconds"):
            await h.remove(seconds)

    async def test_an_instance_that_would_break_the_value_is_refused(self, h: RouterHarness) -> None:
        with pytest.raises(ContentError, match="instance"):
            await h.set(1, PERMANENT, "a|b")

    async def test_a_value_that_is_not_ours_is_told_with_its_place(self, h: RouterHarness) -> None:
        if not await h.damage(NS, UID, SERVICE):
            pytest.skip("nobody else can write where this executor keeps its links")
        for call in (h.get, h.remove, lambda: h.absent(1), lambda: h.set(1), lambda: h.try_set(1)):
            with pytest.raises(RouterDataError, match=UID):
                await call()

    async def test_of_many_users_only_the_one_whose_value_is_not_ours_is_refused(self, h: RouterHarness) -> None:
        if not await h.damage(NS, UID, SERVICE):
            pytest.skip("nobody else can write where this executor keeps its links")
        uids = ["a", UID, "b"]
        made = await h.x.link_pods(NS, SERVICE, {uid: Want(Owner(1, "i1")) for uid in uids}, h.long)
        assert [isinstance(answer, LinkAnswer) and answer.ok for answer in made.values()] == [True, False, True]
        epochs = {uid: answer.epoch if isinstance(answer, LinkAnswer) else 1 for uid, answer in made.items()}
        renewed = await h.x.renew_links(NS, SERVICE, epochs, Owner(1, "i1"), h.long)
        found = await h.x.links(NS, uids, SERVICE)
        for told in (made, renewed, found):
            fault = told[UID]
            assert isinstance(fault, RouterDataError)
            assert UID in str(fault)
            assert not any(isinstance(told[uid], RouterDataError) for uid in ("a", "b"))
        assert sorted(await h.x.users_of_pod(NS, SERVICE, 1)) == ["a", "b"]
        with pytest.raises(RouterDataError, match=UID):
            await h.x.batch_get_linked_pod(NS, uids, SERVICE)

    @feature("SW4")
    async def test_an_owner_renews_its_links_and_makes_none(self, h: RouterHarness) -> None:
        me, other = Owner(1, "me"), Owner(1, "other")
        mine = await h.x.set_linked_pod(NS, "mine", SERVICE, me, h.brief)
        theirs = await h.x.set_linked_pod(NS, "theirs", SERVICE, other, h.long)
        moved = await h.x.set_linked_pod(NS, "moved", SERVICE, me, h.long)
        epochs = {"mine": mine.epoch, "theirs": theirs.epoch, "moved": moved.epoch - 1, "gone": mine.epoch}
        told = await h.x.renew_links(NS, SERVICE, epochs, me, h.long)
        answers = {uid: link_answer(answer) for uid, answer in told.items()}
        assert [answer.ok for answer in answers.values()] == [True, False, False, False]
        assert (answers["theirs"].instance, answers["theirs"].epoch) == ("other", theirs.epoch)
        assert (answers["gone"].current, answers["gone"].epoch) == (None, 0)
        await h.pass_time(h.brief * 1.5)
        assert set(await h.x.links(NS, list(epochs), SERVICE)) == {"mine", "theirs", "moved"}
        assert await h.x.renew_links(NS, SERVICE, {}, me, h.long) == {}

    @pytest.mark.parametrize("bad", ["", "  ", "a}b"])
    async def test_a_call_for_no_users_at_all_checks_its_names_too(self, h: RouterHarness, bad: str) -> None:
        for ns, service in ((bad, SERVICE), (NS, bad)):
            with pytest.raises(ContentError):
                await h.x.links(ns, [], service)
            with pytest.raises(ContentError):
                await h.x.batch_get_linked_pod(ns, [], service)
            with pytest.raises(ContentError):
                await h.x.link_pods(ns, service, {}, h.long)
            with pytest.raises(ContentError):
                await h.x.renew_links(ns, service, {}, Owner(0), h.long)
            with pytest.raises(ContentError):
                await h.x.users_of_pod(ns, service, 0)
        with pytest.raises(ContentError):
            await h.x.get_workload_states(bad, [])


def _one_winner(answers: list[LinkAnswer]) -> None:
    winners = [answer for answer in answers if answer.ok]
    assert len(winners) == 1
    assert {(answer.current, answer.epoch) for answer in answers} == {(winners[0].current, winners[0].epoch)}
