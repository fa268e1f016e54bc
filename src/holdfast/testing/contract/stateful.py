"""A store beside the ledger, step by step, in ways that nobody thought of.

    Machine = store_machine(make_harness)

    class TestMyStore(Machine.TestCase):
        settings = hypothesis.settings(max_examples=200, stateful_step_count=50)

Each step is done to the store and to the pure ledger; answers and jobs must be equal. What a claim hands out is also
worked out by walking over all jobs, and what must never happen is watched by a history that knows neither of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.job import commands as c
from holdfast.job.ledger.links import links_of
from holdfast.job.model import Instance, InstanceState, NewJob, OnConflict, OnWait, QueueMode
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.testing.contract.harness import ERROR, LEASE, StoreHarness
from holdfast.testing.contract.model import LedgerModel, caught, shown_jobs
from holdfast.testing.contract.oracle import History, expected_claims

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from holdfast.job.model import Job, Queue

QUEUES = ("a", "b", "serial")
TASKS = ("t", "u")
INSTANCES = ("i1", "i2", "i3")
SERVICES = ("chat", "game")
#: The states in which a process may own keys.
OWNING = (InstanceState.STARTING, InstanceState.READY)
#: More jobs than this say nothing new, and make every step slower.
JOBS_MAX = 40

new_jobs = st.fixed_dictionaries(
    {
        "task": st.sampled_from(TASKS),
        "queue": st.sampled_from(QUEUES),
        "priority": st.sampled_from((0, 0, 0, 5, -5)),
        "delay": st.sampled_from((None, None, None, 5.0, 60.0)),
        "key": st.sampled_from((None, None, "k1", "k2")),
        "on_wait": st.sampled_from(OnWait),
        "unique": st.sampled_from((None, None, None, "u1", "u2")),
        "unique_window": st.sampled_from((None, None, 40.0)),
        "on_conflict": st.sampled_from(OnConflict),
        "retry": st.sampled_from((1, 2, 5)).map(lambda n: RetryPolicy(n, 0.0, 1.0, 0.0)),
        "own_id": st.booleans(),
        "sticky": st.sampled_from((None, None, *SERVICES)),
    }
).map(lambda fields: fields if fields["key"] else {**fields, "sticky": None})
#: Service, key, pod, process, and how far the epoch is ahead of the one that is known.
key_links = st.tuples(
    st.sampled_from(SERVICES),
    st.sampled_from(("k1", "k2")),
    st.sampled_from((0, 1, 2, None)),
    st.sampled_from(INSTANCES),
    st.sampled_from((1, 1, 1, 0, -1)),
)
endings = st.sampled_from(
    (
        c.Succeeded(b"1"),
        c.Succeeded(b"2", update=b'{"n":1}'),
        c.Snoozed(0.0),
        c.Snoozed(20.0, update=b'{"n":2}', reason="later"),
        c.Failed(ERROR),
        c.Failed(ERROR, retry_in=20.0),
        c.Failed(ERROR, retryable=False),
        c.TimedOut(ERROR),
        c.Crashed(ERROR),
        c.Canceled("enough"),
        c.Released("stop"),
        c.Released("no handler", delay=20.0, counted=False),
    )
)
actions = st.sampled_from(
    (
        c.Cancel(why="no"),
        c.Pause(),
        c.Resume(),
        c.Retry(),
        c.Replay(),
        c.Replay(force=True, queue="b"),
        c.RunNow(),
        c.Edit(priority=9),
        c.Edit(queue="a"),
        c.Delete(),
        c.Delete(hard=True),
    )
)
filters = st.builds(
    c.JobFilter,
    states=st.lists(st.sampled_from(State), min_size=1, max_size=2, unique=True).map(tuple),
    queue=st.sampled_from((None, *QUEUES)),
    task=st.sampled_from((None, *TASKS)),
)
numbers = st.integers(0, 10_000)
instances = st.sampled_from(INSTANCES)
#: What happens now and then: too often, and nothing is left to claim.
bulk_actions = st.sampled_from(
    (
        c.Cancel(),
        c.Pause(),
        c.Resume(),
        c.Resume(),
        c.Retry(),
        c.RunNow(),
        c.Edit(priority=9),
        c.Edit(queue="a"),
        c.Delete(),
    )
)
policies = st.sampled_from(({"limit": None}, {"limit": 1}, {"limit": 2}, {"paused": True}, {"paused": False}))
retentions = st.sampled_from((None, 0.0, 50.0)).flatmap(
    lambda seconds: st.sampled_from((None, 0, 1, 3)).map(
        lambda count: {
            "keep_succeeded": seconds,
            "keep_failed": seconds,
            "keep_succeeded_count": count,
            "keep_failed_count": count,
        }
    )
)
switches = st.sampled_from(
    (
        {"status": "canceled"},
        {"status": "active"},
        {"status": "active"},
        {"deleted": True},
        {"deleted": False},
        {"deleted": False},
    )
)
rare_deeds = st.one_of(
    st.tuples(st.just("died"), st.tuples(instances)),
    st.tuples(st.just("beaten"), st.tuples(instances, st.sampled_from(InstanceState))),
    st.tuples(st.just("bulk"), st.tuples(bulk_actions, filters)),
    st.tuples(st.just("change_queue"), st.tuples(st.sampled_from(QUEUES), st.one_of(policies, retentions))),
    st.tuples(st.just("change_definition"), st.tuples(st.sampled_from(TASKS), switches)),
)


class StoreMachine(RuleBasedStateMachine):
    """The rules. `store_machine` gives it a store."""

    def make(self) -> StoreHarness:
        """Return a fresh harness; `store_machine` fills it in."""
        raise NotImplementedError("use store_machine(make_harness)")

    def __init__(self) -> None:
        """Open a fresh store and a fresh ledger on one clock."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.h = self.make()
        self.run(self.h.open())
        self.model = LedgerModel(self.h.clock.now)
        self.history = History()
        self.claims: list[tuple[c.Claim[Job], c.Claim[Job]]] = []  # the store's and the ledger's
        self.ids: list[str] = []
        self.stopped: set[str] = set()

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Run one call of the store."""
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        """Close everything; a replay of the facts must end where the ledger is."""
        self.model.check_replay()
        self.run(self.h.close())
        self.loop.close()

    # --- looking

    def jobs(self) -> list[Job]:
        """All jobs of the store."""
        found: list[Job] = self.run(self.h.all_jobs())
        return found

    def queues(self) -> dict[str, Queue]:
        """All queues of the store, by name."""
        return {queue.name: queue for queue in self.run(self.h.store.queues())}

    @invariant()
    def store_and_ledger_agree(self) -> None:
        """After every step: the same jobs, no contradiction, nothing that must not be."""
        jobs, stats = self.jobs(), self.run(self.h.store.stats())
        assert shown_jobs(jobs) == shown_jobs(self.model.ledger.table.values())
        self.history.look(jobs, self.queues(), stats)
        self.model.check()
        assert self.h.faults() == []

    # --- the hot path

    @initialize(batch=st.lists(new_jobs, min_size=4, max_size=10))
    def begin(self, batch: list[dict[str, Any]]) -> None:
        """Make the definitions, the serial queue and some jobs."""
        defines = [c.Define(alias=alias, id=f"id-of-{alias}") for alias in TASKS]
        assert self.run(self.h.store.define(defines)) == self.model.do(c.DefineAll(tuple(defines)))
        self._change_queue("serial", {})
        self._enqueue([NewJob(id=self._id(n, False), **fields) for n, fields in enumerate(batch)], report=True)

    @precondition(lambda self: len(self.ids) < JOBS_MAX)
    @rule(batch=st.lists(st.tuples(new_jobs, numbers, st.booleans()), min_size=1, max_size=4), report=st.booleans())
    def enqueue(self, batch: list[tuple[dict[str, Any], int, bool]], report: bool) -> None:
        """Enqueue a batch, now and then with an id that is known."""
        jobs = [NewJob(id=self._id(number, again and number % 4 == 0), **fields) for fields, number, again in batch]
        self._enqueue(jobs, report=report)

    def _enqueue(self, jobs: list[NewJob], *, report: bool) -> None:
        on_duplicate = c.OnDuplicate.REPORT if report else c.OnDuplicate.RAISE
        answer = self.run(caught(self.h.store.enqueue(jobs, on_duplicate=on_duplicate)))
        wanted = self.model.do(c.Enqueue(jobs=tuple(jobs), on_duplicate=on_duplicate))
        if isinstance(wanted, type):
            assert answer is wanted
            return
        assert [(one.verdict, one.id) for one in answer] == [(one.verdict, one.id) for one in wanted]
        self._accepted([one.id for one in answer if one.verdict is c.Verdict.NEW])

    def _id(self, number: int, again: bool) -> str:
        if again and self.ids:
            return self.ids[number % len(self.ids)]
        return f"j{len(self.ids)}-{number}"

    def _accepted(self, ids: list[str]) -> None:
        for job_id in ids:
            if job_id in self.history.purged:
                self.history.forget(job_id)
            self.history.accepted.add(job_id)
            self.ids.append(job_id)

    @rule(
        queues=st.permutations(QUEUES).flatmap(lambda names: st.integers(1, 3).map(lambda n: tuple(names[:n]))),
        each=st.integers(1, 4),
        limit=st.integers(1, 6),
        instance=instances,
        sticky=st.sampled_from((SERVICES, ("chat",), ())),
    )
    def claim(self, queues: tuple[str, ...], each: int, limit: int, instance: str, sticky: tuple[str, ...]) -> None:
        """Claim: as the ledger does, and as a plain walk over all jobs says."""
        wants = tuple(c.QueueWant(name, each) for name in queues)
        want = c.Want(queues=wants, limit=limit, lease=LEASE, instance=instance, worker="w", sticky=sticky)
        now = self.h.clock.now()
        expected = expected_claims(
            self.jobs(), self.queues(), frozenset(self.stopped), want, now, self._owned(instance)
        )
        mine, model = self.run(self.h.store.claim(want)), self.model.do(want)
        assert [claim.id for claim in mine.items] == expected
        assert [_shown_claim(claim) for claim in mine.items] == [_shown_claim(claim) for claim in model.items]
        assert mine.next_due == model.next_due
        assert mine.ownerless == model.ownerless
        self.history.claimed(mine.items)
        self.claims += zip(mine.items, model.items, strict=True)

    claim_more = claim  # a rule that stands twice is chosen twice as often

    @precondition(lambda self: self.claims)
    @rule(number=numbers, late=st.booleans(), ending=endings)
    def settle(self, number: int, late: bool, ending: c.Ending) -> None:
        """End an attempt: one of the newest, or any that ever was, stale ones among them."""
        mine, model = self.claims[number % len(self.claims) if late else -1 - number % min(3, len(self.claims))]
        [job] = self.run(self.h.store.jobs([mine.id]))
        current = job is not None and job.state is State.RUNNING and job.token == mine.token
        [answer] = self.run(self.h.store.settle([c.Settlement(mine, ending, duration=1.0)]))
        [wanted] = self.model.do(c.SettleAll((c.Settlement(model, ending, duration=1.0),)))
        assert _shown_settled(answer) == _shown_settled(wanted)
        assert (answer.accepted is c.Accepted.APPLIED) == (current and self.history.newest(mine))

    settle_more = settle_still_more = settle

    @precondition(lambda self: self.claims)
    @rule(number=numbers, update=st.sampled_from((None, b'{"p":1}', b'{"n":9}')))
    def progress(self, number: int, update: bytes | None) -> None:
        """Report from any claim that ever was."""
        mine, model = self.claims[number % len(self.claims)]
        [answer] = self.run(self.h.store.progress([c.Progress(mine, b"1", update, b'[[1.0,"info","x"]]')]))
        [wanted] = self.model.do(c.ProgressAll((c.Progress(model, b"1", update, b'[[1.0,"info","x"]]'),)))
        assert _shown_settled(answer) == _shown_settled(wanted)

    def _owned(self, instance: str) -> frozenset[tuple[str, str]]:
        """The keys of a process that may own some, as the links and the processes that are shown say."""
        if not any(one.id == instance and one.state in OWNING for one in self.run(self.h.store.instances())):
            return frozenset()
        links = self.run(self.h.store.links(c.LinkFilter(instance=instance)))
        return frozenset((link.service, link.key) for link in links if link.pod is not None)

    @rule(links=st.lists(key_links, min_size=1, max_size=4))
    def bind(self, links: list[tuple[str, str, int | None, str, int]]) -> None:
        """Give keys to processes: under an epoch that is old, the one that is known, or new."""
        wanted = []
        for service, key, pod, instance, ahead in links:
            known = self.model.ledger.links.get((service, key))
            epoch = max(1, (known.epoch if known else 0) + ahead)
            wanted.append(c.KeyLink(service, key, pod, instance, epoch))
        answers, expected = self.run(self.h.store.bind(wanted)), self.model.do(c.Bind(tuple(wanted)))
        assert [(one.accepted, one.link) for one in answers] == [(one.accepted, one.link) for one in expected]
        assert self.run(self.h.store.links(c.LinkFilter())) == links_of(self.model.ledger, c.LinkFilter())

    bind_more = bind

    @rule(instance=instances)
    def beat(self, instance: str) -> None:
        """A process says that it lives."""
        self._beaten(instance, InstanceState.READY)

    def _beaten(self, instance: str, state: InstanceState) -> None:
        command = c.Beat(instance=Instance(id=instance, worker="w", state=state), lease=LEASE)
        mine, model = self.run(self.h.store.heartbeat(command)), self.model.do(command)
        assert sorted((held.id, held.cancel) for held in mine.held) == sorted(
            (held.id, held.cancel) for held in model.held
        )
        assert all(held.token == self.history._tokens[held.id] for held in mine.held)

    @rule()
    def rescue(self) -> None:
        """End what is lost, promote what is due, prune what may go."""
        mine, model = self.run(self.h.store.rescue()), self.model.do(c.Rescue(limit=1_000))
        assert (mine.lost, mine.promoted, mine.pruned) == (model.lost, model.promoted, model.pruned)
        assert sorted(mine.instances_lost) == sorted(model.instances_lost)

    @rule(seconds=st.sampled_from((1.0, 5.0, 20.0, 31.0, 100.0)))
    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.h.advance(seconds)

    # --- control

    @precondition(lambda self: self.ids)
    @rule(picks=st.lists(numbers, min_size=1, max_size=3), action=actions, preview=st.booleans())
    def control(self, picks: list[int], action: c.Action, preview: bool) -> None:
        """Do an action on a few jobs."""
        ids = tuple(self.ids[pick % len(self.ids)] for pick in picks)
        order = c.Order(action=action, selection=c.Selection(ids=ids), who="ann", preview=preview and picks[0] % 3 == 0)
        answer = self.run(self.h.store.control(order))
        made = [ruling.made for ruling in answer.rulings if ruling.made]
        self.model.draw.ids = list(made)
        wanted = self.model.control(order)
        assert [(one.id, one.done, one.made) for one in answer.rulings] == [
            (one.id, one.done, one.made) for one in wanted.rulings
        ]
        self._accepted(made)

    @rule(which=filters)
    def count(self, which: c.JobFilter) -> None:
        """A count is the length of the list."""
        listed = self.run(self.h.store.find(which, c.Page(limit=1_000))).items
        assert self.run(self.h.store.count(which)) == len(listed)

    # --- now and then

    @rule(deed=rare_deeds)
    def now_and_then(self, deed: tuple[str, tuple[Any, ...]]) -> None:
        """A process dies, or an operator changes many jobs, a queue or a task."""
        name, values = deed
        getattr(self, f"_{name}")(*values)

    def _died(self, instance: str) -> None:
        command = c.InstanceDied(instance=instance, detail="signal 9")
        assert self.run(self.h.store.instance_died(command)) == self.model.do(command)

    def _bulk(self, action: c.Action, which: c.JobFilter) -> None:
        order = c.Order(action=action, selection=c.Selection(filter=which), who="ann")
        answer, wanted = self.run(self.h.store.control(order)), self.model.control(order)
        assert (answer.matched, answer.done, answer.refused) == (wanted.matched, wanted.done, wanted.refused)
        assert [one.id for one in answer.refusals] == [one.id for one in wanted.refusals]

    def _change_queue(self, name: str, fields: dict[str, Any]) -> None:
        if name == "serial":
            fields = {"mode": QueueMode.SERIAL, **fields}
        change = c.ChangeQueue(name=name, who="ann", create=name == "serial", **fields)
        answer = self.run(caught(self.h.store.change_queue(change)))
        assert answer == self.model.do(change)

    def _change_definition(self, alias: str, fields: dict[str, Any]) -> None:
        command = c.ChangeDefinition(alias=alias, who="ann", **fields)
        answer = self.run(caught(self.h.store.change_definition(command)))
        assert answer == self.model.change_definition(command)
        if not isinstance(answer, type):
            (self.stopped.discard if answer.runs else self.stopped.add)(alias)


def _shown_claim(claim: c.Claim[Job]) -> tuple[Any, ...]:
    return (claim.id, claim.task, claim.queue, claim.attempt, claim.lease_until, claim.suspect, claim.item.data)


def _shown_settled(settled: c.Settled) -> tuple[Any, ...]:
    return (settled.id, settled.accepted, settled.state, settled.run_at)


def store_machine(make: Callable[[], StoreHarness]) -> type[StoreMachine]:
    """Return the machine for the store that `make` makes."""
    return type("StoreMachine", (StoreMachine,), {"make": lambda _self: make()})
