"""A ledger on a bench: one command at a time, checked after each."""

from typing import Any

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, execute, validate
from holdfast.job.model import (
    Job,
    NewJob,
)
from tests.job.histories import Draw


class Bench:
    """A ledger and a clock that moves by hand."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 1_000.0
        self.log: list[f.Fact] = []
        self.do(c.Open(alone=True))

    def do(self, command: object) -> Any:
        facts, answer = execute(self.ledger, command, self.now, Draw(1))
        self.log += facts
        assert validate(self.ledger) == []
        return answer

    def add(self, *ids: str, **fields: Any) -> None:
        self.do(c.Enqueue(jobs=tuple(NewJob(**{"id": job_id, "task": "t", **fields}) for job_id in ids)))

    def claim(self, limit: int = 1, instance: str = "i1") -> list[c.Claim[Job]]:
        want = c.Want(queues=(c.QueueWant("default", limit),), limit=limit, instance=instance, worker="w")
        return list(self.do(want).items)

    def settle(self, claim: c.Claim[Job], ending: c.Ending) -> c.Settled:
        [settled] = self.do(c.SettleAll((c.Settlement(claim, ending),)))
        assert isinstance(settled, c.Settled)
        return settled

    def job(self, job_id: str) -> Job:
        job = self.ledger.job(job_id)
        assert job is not None
        return job
