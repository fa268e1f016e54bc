"""Claiming: continuous, never in rounds. Slots first, then claim; sleep only after an empty answer.

The loop asks while there is room. Without room it sleeps until a job ends; after an empty answer it sleeps until the
store says that something came, something is due, a lane that could not ask has a slot again, or a queue has rested for
its interval and is asked anew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from holdfast.job.commands import Want
from holdfast.worker.execution import Execution, Grant
from holdfast.worker.hooks import tell
from holdfast.worker.insist import pause
from holdfast.worker.polls import Polls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.clock import Clock
    from holdfast.job.commands import Claim, Claims, QueueWant
    from holdfast.store import Source
    from holdfast.worker.context import Host
    from holdfast.worker.hooks import Alarm, Listeners
    from holdfast.worker.lanes import Lanes
    from holdfast.worker.options import WorkerOptions
    from holdfast.worker.outbox import Outbox
    from holdfast.worker.runner import Runner
    from holdfast.worker.timing import Timing

#: The shortest sleep when an item should be due by this machine's clock and the store says it is not, in seconds.
_NAP: Final = 0.001
#: How long a source that holds claims is asked to hold one, in seconds.
HOLD: Final = 20.0
#: How long the answer of a held claim that was taken back may take, in seconds.
_LAST: Final = 2.0


class Claimer:
    """Claims for one worker. `left` limits how many jobs in all (None: no limit); `once` ends it at an empty answer."""

    def __init__(
        self,
        source: Source[Any],
        lanes: Lanes,
        runner: Runner,
        outbox: Outbox,
        *,
        instance: str,
        options: WorkerOptions,
        clock: Clock,
        timing: Timing,
        host: Host,
        alarm: Alarm,
        listeners: Listeners,
        draw: Callable[[], float],
        left: int | None = None,
        once: bool = False,
        heard: Callable[[Sequence[Claim[Any]]], None] = lambda claims: None,
    ) -> None:
        self._source, self._lanes, self._runner, self._outbox = source, lanes, runner, outbox
        self._instance, self._options, self._clock, self._timing = instance, options, clock, timing
        self._host, self._alarm, self._claimed, self._draw = host, alarm, listeners.claimed, draw
        self._left, self._once, self._heard = left, once, heard
        self._polls = Polls(source, options.poll, push=source.capabilities.push, draw=draw)
        self._seen: Claims[Any] | None = None  # the last answer
        self._wake = asyncio.Event()
        self._naps = 0
        self._holds = itertools.count(1)
        self.stopping = False
        self.enabled = True  # switched off by people through the worker's configuration
        self.claiming_since: float | None = None  # when the call that is out was sent

    def stop(self) -> None:
        """Claim nothing more. A claim that is out is waited for, because the store may have granted it."""
        self.stopping = True
        self._wake.set()

    def enable(self, enabled: bool) -> None:
        """Go on or hold, as people say."""
        if enabled is not self.enabled:
            self.enabled = enabled
            self._polls.wake()
            self._wake.set()

    def look_again(self) -> None:
        """Ask anew: which queues are served, or how many of their jobs, has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Claim until stopped."""
        failures = 0
        while not self._is_over():
            try:
                await self._round()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the worker goes on asking
                failures += 1
                self._alarm("", None, error)
                await self._sleep(pause(failures) * (0.5 + self._draw()))

    def _is_over(self) -> bool:
        return self.stopping or (self._left is not None and self._left <= 0)

    async def _round(self) -> None:
        if self._outbox.full:
            await self._outbox.room()
        wanted = self._lanes.wants(self._clock.monotonic()) if self.enabled else ()
        if not wanted:
            await self._wait_for_room()
            return
        asked = self._polls.awake(wanted, self._clock.monotonic())
        if asked or self._seen is None:
            await self._ask(wanted, asked or wanted)
        else:
            await self._wait_for_work(wanted, self._seen)

    async def _ask(self, wanted: tuple[QueueWant, ...], asked: tuple[QueueWant, ...]) -> None:
        claims = self._seen = await self._claim(asked)
        if claims.items:
            self._polls.wake()
            return
        if self._once:
            self.stopping = True
        if not self.stopping:
            await self._read_intervals()
            self._polls.found_empty(asked, self._clock.monotonic())
            await self._wait_for_work(wanted, claims)

    async def _read_intervals(self) -> None:
        try:
            await self._polls.refresh(self._clock.monotonic())
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the intervals that are known serve
            self._alarm("", None, error)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _claim(self, wanted: tuple[QueueWant, ...]) -> Claims[Any]:
        return await self._granted(wanted, self._want(wanted))

    def _want(self, wanted: tuple[QueueWant, ...]) -> Want:
        options, limit = self._options, self._lanes.total(wanted)
        if self._left is not None:
            limit = min(limit, self._left)
        return Want(
            queues=wanted,
            limit=limit,
            lease=options.lease,
            instance=self._instance,
            worker=options.worker,
            version=options.version,
            pod=options.pod,
            local=options.local,
        )

    async def _granted(self, wanted: tuple[QueueWant, ...], want: Want) -> Claims[Any]:
        sent = self.claiming_since = self._clock.monotonic()
        try:
            claims = await self._source.claim(want)
        finally:
            self.claiming_since = None
        received = self._clock.monotonic()
        # What was waited for is claimed after the wait: so leases begin then.
        self._accept(claims, Grant(min(received, sent + claims.waited), received))
        if self._claimed:
            tell(self._claimed, claims, want.limit, received - sent - claims.waited)
        if len(wanted) > 1:
            self._lanes.served(wanted, want.limit, Counter(claim.queue for claim in claims.items))
        return claims

    def _accept(self, claims: Claims[Any], grant: Grant) -> None:
        lanes, host = self._lanes.by_name, self._host
        # A stop may have come while the claim was out.
        accept = self._runner.refuse if self.stopping else self._runner.accept
        accept([Execution(claim, host, lane=lanes[claim.queue], grant=grant) for claim in claims.items])
        if self._left is not None:
            self._left -= len(claims.items)
        if claims.items:
            self._naps = 0
            self._heard(claims.items)

    # --- sleeping --------------------------------------------------------------------------------------------------

    async def _wait_for_room(self) -> None:
        self._wake.clear()
        self._lanes.on_room = self._wake.set
        if not self.stopping:
            await self._wake.wait()
        self._lanes.on_room = None

    async def _wait_for_work(self, wanted: tuple[QueueWant, ...], claims: Claims[Any]) -> None:
        self._wake.clear()
        if len(wanted) < len(self._lanes.queues):
            # A lane that was full may have work: its next free slot is a reason to ask.
            self._lanes.on_room = self._wake.set
        now = self._clock.monotonic()
        longest = self._polls.next_at(now) - now
        try:
            if self._source.capabilities.holds_claims:
                await self._hold(wanted)
            else:
                await self._doze(claims, self._timeout(claims.next_due, longest))
        finally:
            self._lanes.on_room = None
        if self._clock.monotonic() < now + longest - _NAP:
            self._polls.wake()  # something else than the end of a rest: any queue may have work

    async def _doze(self, claims: Claims[Any], timeout: float) -> None:
        """Sleep until the source says that something came, or anything else is a reason to ask."""
        timer = self._timing.call_at(self._clock.monotonic() + timeout, self._wake.set)
        waiting = asyncio.ensure_future(self._source.wait(self._lanes.queues, claims.cursor, timeout))
        waiting.add_done_callback(lambda _: self._wake.set())
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            waiting.cancel()
            await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.result()  # raises what the store raised

    async def _hold(self, wanted: tuple[QueueWant, ...]) -> None:
        """Have the source hold a claim until something comes; take it back when there is another reason to ask."""
        request = f"{self._instance}-{next(self._holds)}"
        want = replace(self._want(wanted), wait=HOLD, request=request)
        holding = asyncio.ensure_future(self._granted(wanted, want))
        holding.add_done_callback(lambda _: self._wake.set())
        try:
            await self._wake.wait()
            if not holding.done():
                await self._take_back(want, holding)
        finally:
            holding.cancel()
            await asyncio.wait([holding])
            failed = None if holding.cancelled() else holding.exception()
        if failed is not None:
            raise failed
        if not holding.cancelled() and holding.result().items:
            self._polls.wake()

    async def _take_back(self, want: Want, holding: asyncio.Task[Claims[Any]]) -> None:
        """End a held claim: the same request without a wait. Both get the same answer, so what was granted is not lost.

        Behind a balancer another hub may answer it; what that one grants is ours as well.
        """
        sent = self._clock.monotonic()
        ended = await self._source.claim(replace(want, wait=0.0))
        received = self._clock.monotonic()
        await asyncio.wait([holding], timeout=_LAST)
        came = holding.done() and not holding.cancelled() and holding.exception() is None
        known = {(claim.ref, claim.token) for claim in holding.result().items} if came else set()
        more = tuple(claim for claim in ended.items if (claim.ref, claim.token) not in known)
        if more:
            self._accept(replace(ended, items=more), Grant(sent, received))

    def _timeout(self, next_due: float | None, longest: float) -> float:
        """Return how long to sleep. The store's clock decides; ours only says when asking again may be worth it."""
        if next_due is None:
            return longest
        due_in = next_due - self._clock.now()
        if due_in > 0:
            return min(longest, due_in)
        # Our clock is ahead of the store's: ask again soon, then less and less often.
        self._naps += 1
        return float(min(longest, _NAP * 2 ** min(self._naps, 16)))

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        timer = self._timing.call_at(self._clock.monotonic() + seconds, self._wake.set)
        try:
            if not self.stopping:
                await self._wake.wait()
        finally:
            timer.cancel()
