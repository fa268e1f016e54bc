"""Keeping the claims, and knowing when they are lost.

A beat is sent each third of the lease, for all claims of this worker's instance at once; of the shortest one, when a queue
has a lease of its own. What its answer means:

- held here since before the beat was sent, and not returned: the claim is **lost**. Its handler is cancelled and its
  outcome dropped.
- returned with `cancel`: somebody asked the job to stop. Its handler is cancelled.
- returned, but unknown here for a whole beat: a claim whose answer got lost on the way. It is released, unspent.

A lease is counted from the moment its last renewal was *sent*, on a clock that counts suspension; the store can not have
granted it earlier. A beat that finds a claim younger than a third of its lease may leave it as it is, so its old end
stands. When the store can not be reached, each handler is cancelled a margin before its own lease ends: nobody else can
hold the job until then.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from holdfast.job.commands import Claim, Released
from holdfast.worker.context import CancelReason
from holdfast.worker.execution import Execution, Grant
from holdfast.worker.hooks import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.job.commands import Held, Signals
    from holdfast.worker.context import Host
    from holdfast.worker.held import HeldClaims
    from holdfast.worker.hooks import Alarm, Listeners
    from holdfast.worker.lanes import Lane
    from holdfast.worker.runner import Runner
    from holdfast.worker.timing import Timer, Timing

#: This share of the lease is left for handlers to stop before it ends.
MARGIN: Final = 0.1
#: However short a lease, beats do not come more often, in seconds.
_BEAT_MIN: Final = 0.05


class Leases:
    """Reads the answers of beats, and watches the ends of leases."""

    def __init__(
        self,
        held: HeldClaims,
        runner: Runner,
        *,
        lease: float,
        timing: Timing,
        monotonic: Callable[[], float],
        host: Host,
        nowhere: Lane,
        claiming_since: Callable[[], float | None],
        release: Callable[[Execution], None],
        alarm: Alarm,
        listeners: Listeners,
    ) -> None:
        self._held, self._runner, self._lease = held, runner, lease
        self._timing, self._monotonic, self._host, self._nowhere = timing, monotonic, host, nowhere
        self._release_unheard = release
        self._claiming_since, self._alarm, self._beaten = claiming_since, alarm, listeners.beaten
        self._unknown: dict[tuple[int | str, int], float] = {}  # (ref, token) -> when a beat first showed it
        self._timer: Timer | None = None
        self._is_failing = False
        self._shortest = lease  # of those that are held; read by the heart's thread

    # --- claims of a lease of their own ----------------------------------------------------------------------------

    @property
    def beat_within(self) -> float:
        """How many seconds after a beat the next one must come."""
        return max(self._shortest / 3, _BEAT_MIN)

    def heard(self, claims: Iterable[Claim[Any]]) -> bool:
        """Claims came; return whether one of them ends sooner than all that were held, so that a beat must come now."""
        shortest = min([claim.lease or self._lease for claim in claims], default=self._lease)
        if shortest >= self._shortest:
            return False
        self._shortest = shortest
        self.watch()
        return True

    # --- answers ---------------------------------------------------------------------------------------------------

    def beaten(self, signals: Signals, sent: float, received: float) -> None:
        """A beat was answered; called in the loop. `sent` and `received` are by the monotonic clock."""
        self._is_failing = False
        returned = {(one.ref, one.token): one for one in signals.held}
        grant = Grant(sent, received)
        for e in self._held:
            one = returned.pop((e.claim.ref, e.token), None)
            if one is not None:
                self._confirm(e, one, grant)
            elif e.grant.received < sent and e.ending is None:
                self._runner.lose(e)
        self._shortest = min([self._lease, *(e.lease(self._lease) for e in self._held if not e.ended)])
        self._look_at_unknown(returned, sent)
        self.watch()
        if self._beaten:
            tell(self._beaten, signals, sent)

    def _confirm(self, e: Execution, one: Held, grant: Grant) -> None:
        if grant.sent - e.grant.received >= e.lease(self._lease) / 3:
            e.grant = grant
        if one.cancel:
            self._runner.cancel(e, CancelReason.ASKED)

    def failed(self, error: BaseException) -> None:
        """A beat was not answered; called in the loop. Told once for each time that the store is away."""
        if not self._is_failing:
            self._is_failing = True
            self._alarm("", None, error)

    def _look_at_unknown(self, returned: dict[tuple[int | str, int], Held], sent: float) -> None:
        claiming = self._claiming_since()
        for key, one in returned.items():
            since = self._unknown.get(key)
            if since is None or sent - since < self._lease / 3 or (claiming is not None and claiming <= since):
                continue
            self._release(one, sent)
        self._unknown = {key: self._unknown.get(key, sent) for key in returned}

    def _release(self, one: Held, sent: float) -> None:
        claim: Claim[Any] = Claim(None, one.id, "", "", one.token, 0, 0.0, one.ref)
        unheard = Execution(claim, self._host, lane=self._nowhere, grant=Grant(sent, sent))
        unheard.ended, unheard.ending = True, Released("its claim was never heard of", counted=False)
        self._held.add_all((unheard,))
        self._release_unheard(unheard)

    # --- ends ------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look again when the first of the leases comes near its end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # What is claimed from now on can not end before the shortest lease.
        when = min([self._ends(e) for e in self._held if not e.ended], default=inf)
        when = min(when, self._monotonic() + self._shortest * (1 - MARGIN))
        self._timer = self._timing.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._monotonic()
        for e in self._held:
            if not e.ended and self._ends(e) <= now:
                self._runner.lose(e)
        self.watch()

    def _ends(self, e: Execution) -> float:
        return e.grant.sent + e.lease(self._lease) * (1 - MARGIN)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
