"""The WorkerRepository over ClickHouse: every configuration that a worker had, as versions.

The store steers the workers, so a change goes to it first and then here; what lives or has not ended is asked of it as
well. What was changed while ClickHouse was away, or by a command on the store itself, is brought here by the next look.
Workers that the store does not know (it was set up anew, or they were deleted behind the hub's back) are shown as they were
last known, until somebody deletes them; while ClickHouse is away those of the store are shown.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from holdfast.errors import StoreUnavailable, UnknownWorker
from holdfast.job.model import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.histories.clickhouse.client import Client
    from holdfast.histories.clickhouse.migrate import Tables
    from holdfast.history import WorkerRepository

logger: Final = logging.getLogger("holdfast.history")

_KNOWN: Final = "SELECT body FROM {worker} FINAL WHERE gone = 0"
_NOTE: Final = (
    "INSERT INTO {worker} (name, version, gone, body)"
    " SELECT {name:String}, toUnixTimestamp64Nano(now64(9)), {gone:UInt8}, {body:String}"
)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(WorkerConfig).decode


class ClickhouseWorkers:
    """The WorkerRepository over ClickHouse."""

    def __init__(self, client: Client, tables: Tables, store: WorkerRepository, now: Callable[[], float]) -> None:
        """store: the workers of the store itself. now: the store's clock. All are open while this is used."""
        self._client, self._tables, self._store, self._now = client, tables, store, now

    async def upsert(self, config: WorkerConfig) -> WorkerConfig:
        """Add or overwrite a worker."""
        stored = await self._store.upsert(config)
        await self._later_if_away(stored)
        return stored

    async def get(self, name: str) -> WorkerConfig:
        """One worker, with when it was last heard of."""
        found = next((config for config in await self.list() if config.name == name), None)
        if found is None:
            raise UnknownWorker(f"unknown worker {name!r}: list the workers to see those that exist.")
        return found

    async def list(self) -> Sequence[WorkerConfig]:
        """All workers, by name."""
        live = {config.name: config for config in await self._store.list()}
        try:
            known = await self._known()
            for config in live.values():
                if _lasting(known.get(config.name)) != _lasting(config):
                    await self._note(config)
        except StoreUnavailable as error:
            logger.warning("workers: those of the store alone are shown: %s", error)
            known = {}
        return [config for _, config in sorted({**known, **live}.items())]

    async def delete(self, name: str) -> None:
        """Forget a worker that nothing unfinished refers to."""
        config = await self.get(name)
        try:
            await self._store.delete(name)
        except UnknownWorker:
            logger.info("worker %r was known to the history alone", name)
        # Raises when ClickHouse is away: it would show the worker again.
        await self._note(config, gone=True)

    async def update_heartbeat(self, name: str, at: float) -> bool:
        """Set when the worker was heard of."""
        if await self._store.update_heartbeat(name, at):
            return True
        known = (await self._known()).get(name)
        if known is not None:
            await self._note(replace(known, last_heartbeat_at=at))
        return known is not None

    async def list_offline(self, silent_for: float) -> Sequence[WorkerConfig]:
        """Workers that were silent for too long, disabled ones too."""
        before = self._now() - silent_for
        return [
            config
            for config in await self.list()
            if config.last_heartbeat_at is None or config.last_heartbeat_at < before
        ]

    # --- rows

    async def _known(self) -> Mapping[str, WorkerConfig]:
        configs = [_decode(body) for (body,) in await self._client.query(self._tables.named(_KNOWN))]
        return {config.name: config for config in configs}

    async def _note(self, config: WorkerConfig, *, gone: bool = False) -> None:
        body = "" if gone else _encode(config).decode()
        await self._client.execute(self._tables.named(_NOTE), name=config.name, gone=int(gone), body=body)

    async def _later_if_away(self, config: WorkerConfig) -> None:
        try:
            await self._note(config)
        except StoreUnavailable as error:
            logger.warning("worker %r is configured; the history hears of it later: %s", config.name, error)


def _lasting(config: WorkerConfig | None) -> WorkerConfig | None:
    """What of a configuration only people change."""
    return config and replace(config, last_heartbeat_at=None)
