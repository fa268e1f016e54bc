"""Workers from the ledger of the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.errors import Conflict, UnknownWorker
from holdfast.histories.ledger import walk
from holdfast.history import checked_worker
from holdfast.job.commands import ConfigureWorker, DeleteWorker, WorkerBeat
from holdfast.job.model import InstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.histories.ledger import LedgerAccess
    from holdfast.job.ledger import Ledger
    from holdfast.job.model import Instance, WorkerConfig

_GONE: Final = (InstanceState.LOST, InstanceState.STOPPED)


class LedgerWorkers:
    """The WorkerRepository over a ledger."""

    def __init__(self, store: LedgerAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    async def upsert(self, config: WorkerConfig) -> WorkerConfig:
        """Add or overwrite a worker."""
        stored: WorkerConfig = await self._store.run(ConfigureWorker(checked_worker(config)))
        return stored

    async def get(self, name: str) -> WorkerConfig:
        """One worker, with when it was last heard of."""
        found = next((config for config in await self.list() if config.name == name), None)
        if found is None:
            raise _unknown(name)
        return found

    async def list(self) -> Sequence[WorkerConfig]:
        """All workers, by name."""
        return await self._store.read(lambda: _workers(self._store.ledger))

    async def delete(self, name: str) -> None:
        """Forget a worker that nothing unfinished refers to."""
        await self.get(name)
        live = await self._store.read(lambda: [one.id for one in _instances(self._store.ledger, name)])
        if live:
            raise Conflict(f"worker {name!r} has {len(live)} live instances: expected none. Stop them first.")
        async for jobs in walk(self._store):
            held = next((job.id for job in jobs if not job.final and job.last and job.last.worker == name), None)
            if held is not None:
                raise Conflict(
                    f"worker {name!r} had the newest attempt of job {held!r}, which has not ended: expected no unfinished "
                    "job to refer to it. Finish or cancel its jobs first, or disable the worker."
                )
        await self._store.run(DeleteWorker(name))

    async def update_heartbeat(self, name: str, at: float) -> bool:
        """Set when the worker was heard of."""
        known: bool = await self._store.run(WorkerBeat(name, at))
        return known

    async def list_offline(self, silent_for: float) -> Sequence[WorkerConfig]:
        """Workers that were silent for too long, disabled ones too."""
        before = self._store.now() - silent_for
        return [
            config
            for config in await self.list()
            if config.last_heartbeat_at is None or config.last_heartbeat_at < before
        ]


def _unknown(name: str) -> UnknownWorker:
    return UnknownWorker(f"unknown worker {name!r}: list the workers to see those that exist.")


def _instances(ledger: Ledger, worker: str) -> list[Instance]:
    """Live processes of a worker, each with its newest beat."""
    known = [one for one in ledger.instances.values() if one.worker == worker and one.state not in _GONE]
    return [ledger.beats.get(one.id, one) for one in known]


def _workers(ledger: Ledger) -> list[WorkerConfig]:
    return [_with_beat(ledger, config) for _, config in sorted(ledger.workers.items())]


def _with_beat(ledger: Ledger, config: WorkerConfig) -> WorkerConfig:
    """A worker as people should see it: its instances speak for it."""
    beats = [one.heartbeat_at for one in ledger.instances.values() if one.worker == config.name]
    beats += [one.heartbeat_at for one in ledger.beats.values() if one.worker == config.name]
    if config.last_heartbeat_at is not None:
        beats.append(config.last_heartbeat_at)
    return replace(config, last_heartbeat_at=max(beats)) if beats else config
