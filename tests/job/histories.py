"""Random lives of a ledger: commands of all kinds, drawn from a seed, that keep the ledger busy and mostly sensible."""

import random
from collections.abc import Callable
from typing import Any, Final

from holdfast.clock import ManualClock
from holdfast.errors import HoldfastError
from holdfast.job import commands as c
from holdfast.job.facts import Fact
from holdfast.job.ledger import Ledger, execute
from holdfast.job.model import (
    Attempt,
    Instance,
    InstanceState,
    Job,
    NewJob,
    OnConflict,
    OnWait,
    QueueMode,
    Schedule,
    ScheduleStatus,
    WorkerConfig,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State

QUEUES: Final = ("a", "b", "c")
TASKS: Final = ("t", "u", "v")
INSTANCES: Final = ("i1", "i2", "i3", "i4")
SERVICES: Final = ("pods", "more")
ERROR: Final = c.ErrorInfo("E", "no", "Traceback")
ENDINGS: Final = (
    c.Succeeded(b"1"),
    c.Succeeded(b'{"r":1}', update=b'{"n":1}'),
    c.Succeeded(None, update=b"broken"),
    c.Snoozed(0.0),
    c.Snoozed(30.0, update=b'{"n":2}', reason="later"),
    c.Failed(ERROR),
    c.Failed(ERROR, retry_in=30.0, update=b'{"f":1}'),
    c.Failed(ERROR, retryable=False),
    c.TimedOut(ERROR),
    c.Crashed(ERROR),
    c.Canceled("enough"),
    c.Released("stop"),
    c.Released("no handler", delay=30.0, counted=False),
)
ACTIONS: Final = (
    c.Cancel(why="no"),
    c.Pause(),
    c.Resume(),
    c.Resume(),
    c.Retry(),
    c.Retry(),
    c.Replay(),
    c.Replay(force=True, queue="b", payload=b"2"),
    c.RunNow(),
    c.Edit(priority=9),
    c.Edit(queue="fresh", payload=b"3"),
    c.Delete(),
    c.Delete(hard=True),
)


class Draw:
    """Chance from a seed."""

    def __init__(self, seed: int) -> None:
        """The same seed is the same chance."""
        self._random = random.Random(seed)
        self._made = self._epoch = 0

    def unit(self) -> float:
        """A number from 0.0 up to 1.0."""
        return self._random.random()

    def job_id(self, now: float) -> str:
        """A new id."""
        self._made += 1
        return f"made-{self._made}"


class Life:
    """A ledger that lives: `step` does one random command and keeps its facts as one group."""

    def __init__(self, seed: int) -> None:
        """Begin a life; the same seed is the same life."""
        self.random = random.Random(seed)
        self.clock = ManualClock(1_000_000.0)
        self.draw = Draw(seed)
        self.ledger = Ledger()
        self.groups: list[list[Fact]] = []
        self.claims: list[c.Claim[Job]] = []
        self.ids: list[str] = []
        self._made = self._epoch = 0
        self.do(c.Open(alone=True))
        self.do(c.DefineAll(tuple(c.Define(alias=alias) for alias in TASKS)))

    def live(self, steps: int) -> "Life":
        """Do so many random commands."""
        for _ in range(steps):
            self.step()
        return self

    @property
    def facts(self) -> list[Fact]:
        """All facts so far."""
        return [fact for group in self.groups for fact in group]

    def do(self, command: object) -> Any:
        """Execute one command; None when it was refused."""
        try:
            facts, answer = execute(self.ledger, command, self.clock.now(), self.draw)
        except HoldfastError:
            return None
        if facts:
            self.groups.append(facts)
        return answer

    def step(self) -> None:
        """Do one random command."""
        [doing] = self.random.choices(list(_DOINGS), weights=list(_DOINGS.values()))
        doing(self)

    def one(self, *options: Any) -> Any:
        """Return one of them."""
        return self.random.choice(options)

    def enqueue(self) -> None:
        """Enqueue a few jobs."""
        jobs = tuple(self._new() for _ in range(self.random.randint(1, 4)))
        answers = self.do(c.Enqueue(jobs=jobs, on_duplicate=self.one(*c.OnDuplicate)))
        self.ids += [answer.id for answer in answers or ()]

    def _new(self) -> NewJob:
        self._made += 1
        again = self.ids and self.random.random() < 0.03
        key = self.one(None, None, "k1", "k2")
        return NewJob(
            id=self.random.choice(self.ids) if again else f"j{self._made}",
            own_id=self.one(True, False),
            task=self.one(*TASKS),
            queue=self.one(*QUEUES),
            priority=self.one(0, 0, 5, -5),
            delay=self.one(None, None, None, 5.0, 60.0),
            key=key,
            on_wait=self.one(*OnWait),
            sticky=self.one(*[None] * 4, "pods", "more") if key else None,
            unique=self.one(None, None, None, "u1", "u2"),
            unique_window=self.one(None, 40.0),
            on_conflict=self.one(*OnConflict),
            retry=RetryPolicy(self.one(1, 2, 5), self.one(0.0, 8.0), delays=self.one((), (), (1.0, 9.0))),
            tags=self.one((), ("x",)),
        )

    def claim(self) -> None:
        """Claim from all queues."""
        names = self.random.sample(QUEUES, 3)
        wants = tuple(c.QueueWant(name, self.one(1, 3)) for name in names)
        who = {"instance": self.one(*INSTANCES), "worker": self.one("w", "x")}
        answer = self.do(c.Want(queues=wants, limit=5, sticky=SERVICES, **who))
        self.claims += answer.items

    def settle(self) -> None:
        """Settle one of the newest claims, or any that ever was."""
        if not self.claims:
            return
        claim = self.random.choice(self.claims if self.random.random() < 0.2 else self.claims[-4:])
        log = self.one(b"", b"", b"[]", b'[[1.0,"info","x"]]')
        self.do(c.SettleAll((c.Settlement(claim, self.one(*ENDINGS), 1.0, log, "trace", "span"),)))

    def progress(self) -> None:
        """Report from any of the newest claims."""
        for claim in self.claims[-2:]:
            self.do(c.ProgressAll((c.Progress(claim, b"1", self.one(None, b'{"p":1}'), b'[[1.0,"info","y"]]'),)))

    def beat(self) -> None:
        """A process says that it lives, starts or stops."""
        name = self.one(*INSTANCES)
        state = self.one(InstanceState.READY, InstanceState.READY, InstanceState.STOPPED)
        instance = Instance(id=name, worker=self.one("w", "x"), state=state, local=name != "i4")
        self.do(c.Beat(instance=instance, lease=30.0))

    def bind(self) -> None:
        """A key is given to a process, or taken away, under an old epoch or a new one."""
        self._epoch += self.one(0, 0, 1, 1, 1)
        pod = self.one(None, 0, 1, 1)
        link = c.KeyLink(self.one(*SERVICES), self.one("k1", "k2"), pod, self.one(*INSTANCES), self._epoch)
        self.do(c.Bind((link,)))

    def upkeep(self) -> None:
        """Time goes by, and somebody looks."""
        self.clock.advance(self.one(1.0, 5.0, 31.0, 100.0, 100_000.0))
        self.do(c.Rescue(limit=self.one(1, 1_000)))

    def crash(self) -> None:
        """A process dies, or the whole engine."""
        if self.random.random() < 0.3:
            self.do(c.Open(alone=self.one(True, True, False)))
        else:
            self.do(c.InstanceDied(instance=self.one(*INSTANCES), detail="signal 9"))

    def control(self) -> None:
        """Do an action on a few jobs, or on all that match."""
        action, who = self.one(*ACTIONS), self.one("ann", "")
        if self.ids and self.random.random() < 0.8:
            ids = tuple({*self.random.choices(self.ids, k=3), "nobody"})
            self.do(
                c.Order(action=action, selection=c.Selection(ids=ids), who=who, preview=self.one(*[False] * 9, True))
            )
            return
        which = c.JobFilter(states=(self.one(*State),), queue=self.one(None, *QUEUES))
        answer = self.do(c.Order(action=action, selection=c.Selection(filter=which), who=who))
        following = self.one(c.ContinueOperation, c.ContinueOperation, c.CancelOperation)
        self.do(following(id=answer.operation.id))

    def admin(self) -> None:
        """Change a queue, a definition, a schedule, a worker, or record what ran elsewhere."""
        self.random.choice((self._queue, self._definition, self._schedule, self._worker, self._external))()

    def _queue(self) -> None:
        name = self.one(*QUEUES, "nobody")
        changes: dict[str, Any] = self.one(
            {"limit": 1},
            {"limit": None},
            {"mode": QueueMode.SERIAL},
            {"mode": QueueMode.CONCURRENT},
            {"paused": True},
            {"paused": False},
            {"paused": False},
            {"keep_succeeded_count": 2, "keep_failed_count": 1},
            {"keep_succeeded": 50.0, "keep_failed": None},
            {"rescue_after": 60.0},
        )
        self.do(c.ChangeQueue(name=name, who=self.one("ann", ""), create=self.one(*[False] * 9, True), **changes))
        if self.random.random() < 0.2:
            self.do(c.DeleteQueue(name=self.one(*QUEUES, "fresh", "nobody"), who="ann"))

    def _definition(self) -> None:
        stop: dict[str, Any] = self.one({"status": "canceled"}, {"deleted": True}, {"title": "x"}, {"new_alias": "v"})
        alias = self.one(*TASKS)
        self.do(c.ChangeDefinition(alias=alias, who=self.one("ann", ""), **stop))
        if self.random.random() < 0.8:
            self.do(c.ChangeDefinition(alias=alias, status="active", deleted=False))
        if self.random.random() < 0.2:
            self.do(c.DeleteDefinition(alias=self.one(*TASKS), who="ann"))

    def _schedule(self) -> None:
        due = self.clock.now()
        status = self.one(ScheduleStatus.ACTIVE, ScheduleStatus.ACTIVE, ScheduleStatus.INACTIVE)
        self.do(c.SaveSchedule(Schedule(name="s", rule="* * * * *", task="t", next_run_at=due, status=status)))
        due, following = self.one(due, due, 1.0), self.one(due + 60.0, None)
        self.do(c.FireSchedule(name="s", due=due, jobs=(self._new(),), next_run_at=following))

    def _worker(self) -> None:
        if self.random.random() < 0.7:
            self.do(c.ConfigureWorker(WorkerConfig(name=self.one("w", "x"), drain=self.one(True, False))))
        else:
            self.do(c.DeleteWorker(self.one("w", "x")))

    def _external(self) -> None:
        name = self.one("e1", "e2", *self.ids[-1:])
        self.do(c.RecordJobs((Job(seq=0, id=name, task="t", queue="a", state=State.RUNNING),)))
        number = self.random.randint(1, 5)
        end = self.one(None, End.SUCCEEDED, End.FAILED)
        ended_at = None if end is None else self.clock.now() + 1.0
        record = Attempt(number, 0, "", "w", self.clock.now(), end, ended_at)
        self.do(c.RecordAttempts((c.AttemptRecord(name, record),)))
        # An exporter notes how far it is, or is taken away.
        self.do(c.Export(on=number != 5, upto=number * 20))


_DOINGS: Final[dict[Callable[[Life], None], int]] = {
    Life.enqueue: 8,
    Life.claim: 10,
    Life.settle: 16,
    Life.progress: 3,
    Life.beat: 4,
    Life.bind: 4,
    Life.upkeep: 6,
    Life.crash: 2,
    Life.control: 8,
    Life.admin: 4,
}
