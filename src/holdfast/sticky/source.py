"""The store as a worker with sticky services sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.commands import Beat, Claims, Signals
    from holdfast.job.commands import Want as JobWant
    from holdfast.job.model import Job
    from holdfast.sticky.runtime import Runtime
    from holdfast.store import Store


class StickySource:
    """The store as a worker with sticky services sees it: claims and beats say more, answers name keys to bind."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime

    async def claim(self, want: JobWant) -> Claims[Job]:
        """Claim, also for the keys of this process."""
        runtime = self._runtime
        runtime.started(want.instance)
        claims = await self._store.claim(msgspec.structs.replace(want, pod=runtime.pod, sticky=runtime.services))
        if claims.ownerless:
            runtime.wait_for_owner(claims.ownerless)
        return claims

    async def heartbeat(self, beat: Beat) -> Signals:
        """Beat, as a pod."""
        return await self._store.heartbeat(self._told(beat))

    def _told(self, beat: Beat) -> Beat:
        self._runtime.beaten(beat.instance.load)
        if self._runtime.pod is None:
            return beat
        instance = msgspec.structs.replace(beat.instance, pod=self._runtime.pod)
        return msgspec.structs.replace(beat, instance=instance)

    def beat_source(self) -> Any:
        """What the heart's thread beats through: the store's own way for that, if it has one."""
        make: Callable[[], Any] | None = getattr(self._store, "beat_source", None)
        return self if make is None else _Beats(make(), self._told)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's."""
        return getattr(self._store, name)


class _Beats:
    """The store's way to beat from another thread, with the pod's number in each beat."""

    def __init__(self, source: Any, told: Callable[[Beat], Beat]) -> None:
        self._source, self._told = source, told

    async def heartbeat(self, beat: Beat) -> Signals:
        answer: Signals = await self._source.heartbeat(self._told(beat))
        return answer

    async def close(self) -> None:
        await self._source.close()
