"""Which pod gets the next key: the freest, and among those that are nearly as free each in its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.router import is_available

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.router import PodState

#: Pods whose load is at most so much above the freest one's are as good as it.
NEAR: Final = 0.5


class Choice:
    """Smooth weighted round robin over the near-equal pods of one service.

    Each turn every candidate gains its weight, the richest is chosen and pays the sum: so turns are spread evenly, and
    over any whole number of rounds each pod has its exact share.
    """

    def __init__(self, near: float = NEAR) -> None:
        self._near = near
        self._credits: dict[tuple[int, str], int] = {}

    def best(self, pods: Mapping[int, PodState]) -> PodState | None:
        """Return the pod for the next key; None if none is available."""
        available = [pod for pod in pods.values() if is_available(pod)]
        if not available:
            return None
        least = min(pod.load for pod in available)
        near = [pod for pod in available if pod.load <= least + self._near]
        # Who is no candidate now begins again with nothing, or it would flood the pod when it comes back.
        credit = {(pod.pod, pod.instance): self._credits.get((pod.pod, pod.instance), 0) + pod.weight for pod in near}
        chosen = max(near, key=lambda pod: (credit[pod.pod, pod.instance], -pod.pod))
        credit[chosen.pod, chosen.instance] -= sum(pod.weight for pod in near)
        self._credits = credit
        return chosen
