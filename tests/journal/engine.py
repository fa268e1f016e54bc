"""A process that serves a journal to four threads until it is killed: `python -m tests.journal.engine FOLDER HISTORY LIFE`.

Each thread has an event loop of its own and writes down what it asks for and is told. Snapshots are made all the time.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from pathlib import Path
from typing import Any, Final

from holdfast.job.commands import (
    ChangeQueue,
    Claim,
    Ending,
    ErrorInfo,
    Failed,
    OnDuplicate,
    QueueWant,
    Released,
    Settlement,
    Snoozed,
    Succeeded,
    Want,
)
from holdfast.job.model import Job, NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.stores.journal import JournalStore, open_journal
from tests.journal.history import Recorder, payload_of

CLIENTS: Final = 4
OPTIONS: Final[dict[str, Any]] = {"segment_bytes": 256 * 1024, "snapshot_interval": 0.1, "snapshot_bytes": 128 * 1024}
ENDINGS: Final[dict[str, Ending]] = {
    "succeeded": Succeeded(b'"done"'),
    "failed": Failed(ErrorInfo("E", "no"), retry_in=0.0),
    "snoozed": Snoozed(0.0),
    "released": Released("changed its mind", counted=False),
}


class Client:
    """One thread's work: enqueue, claim, settle, now and then with an old token."""

    def __init__(self, store: JournalStore, history: Path, life: int, number: int) -> None:
        self.store, self.life, self.number = store, life, number
        self.draw = random.Random(life * CLIENTS + number)
        self.record = Recorder(history / f"{life}-{number}.jsonl", life)
        self.made = 0
        self.held: list[Claim[Job]] = []
        self.old: list[Claim[Job]] = []

    async def work(self) -> None:
        """Go on until the process is killed."""
        while True:
            await self.draw.choices((self.enqueue, self.claim, self.settle, self.settle_again), (4, 4, 6, 1))[0]()

    async def enqueue(self) -> None:
        jobs = [self.new() for _ in range(self.draw.randint(1, 3))]
        ids = tuple(job.id for job in jobs)
        call = self.record.invoke("enqueue", ids=ids)
        await self.store.enqueue(jobs, on_duplicate=OnDuplicate.REPORT)
        self.record.ok(call, "enqueue", ids=ids)

    def new(self) -> NewJob:
        self.made += 1
        job_id = f"{self.life}-{self.number}-{self.made}"
        retry = RetryPolicy(max_attempts=1_000, base=0.0, factor=1.0, cap=0.0)
        return NewJob(id=job_id, task="t", queue="q", payload=payload_of(job_id), retry=retry)

    async def claim(self) -> None:
        instance = f"i-{self.life}-{self.number}"
        call = self.record.invoke("claim")
        want = Want(queues=(QueueWant("q", 3),), limit=self.draw.randint(1, 3), instance=instance, worker="w")
        claims = (await self.store.claim(want)).items
        self.record.ok(
            call, "claim", ids=tuple(claim.id for claim in claims), tokens=tuple(claim.token for claim in claims)
        )
        self.held += claims

    async def settle(self) -> None:
        if self.held:
            claim = self.held.pop(self.draw.randrange(len(self.held)))
            await self._settle(claim, self.draw.choices(tuple(ENDINGS), (6, 2, 1, 1))[0])
            self.old = [*self.old[-5:], claim]

    async def settle_again(self) -> None:
        if self.old:
            await self._settle(self.draw.choice(self.old), "failed")

    async def _settle(self, claim: Claim[Job], ending: str) -> None:
        named: dict[str, Any] = {"ids": (claim.id,), "tokens": (claim.token,), "ending": ending}
        call = self.record.invoke("settle", **named)
        [answer] = await self.store.settle([Settlement(claim, ENDINGS[ending])])
        self.record.ok(call, "settle", **named, accepted=answer.accepted.value)


async def serve(folder: str, history: Path, life: int) -> None:
    """Open the journal and let the clients work."""
    store = open_journal(folder, **OPTIONS)
    await store.open()
    names = ("keep_succeeded", "keep_succeeded_count", "keep_failed", "keep_failed_count")
    keep: dict[str, Any] = dict.fromkeys(names)
    await store.change_queue(ChangeQueue(name="q", create=True, **keep))
    clients = [Client(store, history, life, number) for number in range(CLIENTS)]
    threads = [threading.Thread(target=asyncio.run, args=(client.work(),), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
