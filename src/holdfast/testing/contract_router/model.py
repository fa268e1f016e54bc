"""A plain model of links, written from the rules alone, and random histories that hold an executor against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import RouterDataError
from holdfast.router import PERMANENT, Owner, Want
from holdfast.testing.contract_router.harness import link_answer

if TYPE_CHECKING:
    from holdfast.router import LinkAnswer
    from holdfast.testing.contract_router.harness import RouterHarness

NS: Final = "game"
UIDS: Final = ("a", "b")
SERVICES: Final = ("s", "t")
OWNERS: Final = (Owner(0), Owner(0, "again"), Owner(1, "one"))
#: Far enough apart, and from what passes while a test runs, to be told from one another.
SECONDS: Final = (PERMANENT, 1_000.0, 3_000.0)
SLACK: Final = 500.0


class Step(Struct, frozen=True):
    """One call. `replaces`: name the epoch that stands (True) or a wrong one (False)."""

    verb: str
    uid: str
    service: str
    owner: Owner
    seconds: float
    replaces: bool | None = None


STEPS: Final = st.lists(
    st.builds(
        Step,
        verb=st.sampled_from(("set", "try", "absent", "absent many", "renew", "remove", "remove with id", "pass time")),
        uid=st.sampled_from(UIDS),
        service=st.sampled_from(SERVICES),
        owner=st.sampled_from(OWNERS),
        seconds=st.sampled_from(SECONDS),
        replaces=st.sampled_from((None, None, True, False)),
    ),
    min_size=1,
    max_size=25,
)


class Known(Struct, frozen=True):
    """A link as the model has it. left: seconds; None: permanent."""

    owner: Owner
    epoch: int
    left: float | None


class Model:
    """All links, and the highest epoch that was ever seen of each."""

    def __init__(self) -> None:
        self.links: dict[tuple[str, str], Known] = {}
        self.highest: dict[tuple[str, str], int] = {}

    def told(self, step: Step, answer: LinkAnswer) -> None:
        """Check an answer against the rules, and keep what follows from it."""
        place = (step.uid, step.service)
        old = self.links.get(place)
        assert answer.previous == (old.owner.pod if old else None)
        if step.verb.startswith("remove"):
            self._removed(place, old, step, answer)
            return
        if step.verb == "renew":
            may = old is not None and old.owner == step.owner and step.replaces is not False
        else:
            may = old is None or old.owner == step.owner or self._takes(old, step)
        assert answer.ok is may
        if not may:
            assert (answer.current, answer.epoch) == ((old.owner.pod, old.epoch) if old else (None, 0))
            return
        same = old is not None and old.owner == step.owner
        left = None if step.seconds == PERMANENT else step.seconds
        if same and old is not None and step.verb != "set":
            left = None if left is None or old.left is None else max(left, old.left)
        if same and old is not None:
            assert answer.epoch == old.epoch
        else:
            assert answer.epoch > self.highest.get(place, 0)
        self.highest[place] = answer.epoch
        assert (answer.current, answer.instance) == (step.owner.pod, step.owner.instance)
        self.links[place] = Known(step.owner, answer.epoch, left)

    def _takes(self, old: Known, step: Step) -> bool:
        if step.verb == "set":
            return True
        if step.verb == "try":
            return step.replaces if step.replaces is not None else step.seconds == PERMANENT and old.left is not None
        return False

    def _removed(self, place: tuple[str, str], old: Known | None, step: Step, answer: LinkAnswer) -> None:
        wrong = step.verb == "remove with id" and old is not None and not _covers(step.owner, old.owner)
        assert answer.ok is (old is not None and not wrong)
        if old is None or wrong:
            return
        if step.seconds == PERMANENT:
            del self.links[place]
        else:
            left = step.seconds if old.left is None else min(old.left, step.seconds)
            self.links[place] = replace(old, left=left)

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        left = {place: link.left - seconds for place, link in self.links.items() if link.left is not None}
        for place, rest in left.items():
            self.links[place] = replace(self.links[place], left=rest)
            if rest <= 0:
                del self.links[place]


def _covers(asked: Owner, owner: Owner) -> bool:
    return asked == owner if asked.instance else asked.pod == owner.pod


async def compare(h: RouterHarness, steps: list[Step]) -> None:
    """Do `steps` on a fresh executor and on the model; fail where they differ. Time passes only if it can be steered."""
    model = Model()
    for step in steps:
        if step.verb == "pass time":
            if h.clock is not None:
                await h.pass_time(700.0)
                model.pass_time(700.0)
        else:
            model.told(step, await _do(h, model, step))
        await _look(h, model)


async def _do(h: RouterHarness, model: Model, step: Step) -> LinkAnswer:
    x, uid, service, owner, seconds = h.x, step.uid, step.service, step.owner, step.seconds
    if step.verb == "set":
        return await x.set_linked_pod(NS, uid, service, owner, seconds)
    if step.verb == "try":
        known = model.links.get((uid, service))
        named = None if step.replaces is None else (known.epoch if known and step.replaces else 1)
        return await x.try_set_linked_pod(NS, uid, service, owner, seconds, replaces=named)
    if step.verb == "absent":
        return await x.set_linked_pod_if_absent(NS, uid, service, owner, seconds)
    if step.verb == "absent many":
        return link_answer((await x.link_pods(NS, service, {uid: Want(owner)}, seconds))[uid])
    if step.verb == "renew":
        known = model.links.get((uid, service))
        epoch = known.epoch if known and step.replaces is not False else 1
        return link_answer((await x.renew_links(NS, service, {uid: epoch}, owner, seconds))[uid])
    if step.verb == "remove":
        return await x.remove_linked_pod(NS, uid, service, seconds)
    return await x.remove_linked_pod_with_id(NS, uid, service, seconds, owner)


async def _look(h: RouterHarness, model: Model) -> None:
    """Every read says what the model says."""
    for service in SERVICES:
        found = await h.x.links(NS, UIDS, service)
        for uid in UIDS:
            known, link = model.links.get((uid, service)), found.get(uid)
            assert (link is None) == (known is None)
            assert not isinstance(link, RouterDataError)
            if link is None or known is None:
                continue
            assert (link.pod, link.instance, link.epoch) == (known.owner.pod, known.owner.instance, known.epoch)
            assert (link.seconds_left is None) == (known.left is None)
            if link.seconds_left is not None and known.left is not None:
                assert abs(link.seconds_left - known.left) < SLACK
        for pod in (0, 1):
            having = sorted(uid for (uid, s), link in model.links.items() if s == service and link.owner.pod == pod)
            assert sorted(await h.x.users_of_pod(NS, service, pod)) == having
    for uid in UIDS:
        permanent = {s: link.owner.pod for (u, s), link in model.links.items() if u == uid and link.left is None}
        assert await h.x.get_link_service(NS, uid) == permanent
