"""When a failed job runs again."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How often a job may fail, and how long it waits between.

    max_attempts: failures after which the job is `failed`; 1 = never retry (1 … 10,000).
    base: seconds before the second attempt. factor: growth per failure. cap: the longest wait, in seconds.
    delays: own waits in seconds, one per failure, instead of the computed ones; the last one repeats.
    """

    max_attempts: int = 5
    base: float = 2.0
    factor: float = 2.0
    cap: float = 3_600.0
    delays: tuple[float, ...] = ()


def backoff(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Return the seconds to wait after failure number `failures` (from 1).

    `jitter`, 0.0 to 1.0, is drawn by the caller, so that this stays pure. Half of the wait is fixed and half is drawn.
    Raises ValueError if `failures` is below 1.
    Own delays are taken as they are, without jitter.
    Source: Brooker, "Exponential Backoff and Jitter" (2015), equal jitter.

    >>> [backoff(RetryPolicy(), n, jitter=1.0) for n in (1, 2, 3)]
    [2.0, 4.0, 8.0]
    >>> backoff(RetryPolicy(), 1, jitter=0.0)
    1.0
    >>> [backoff(RetryPolicy(delays=(5.0, 60.0)), n, jitter=0.3) for n in (1, 2, 3)]
    [5.0, 60.0, 60.0]
    """
    if failures < 1:
        raise ValueError(f"failures counts from 1, found {failures}")
    if policy.delays:
        return policy.delays[min(failures, len(policy.delays)) - 1]
    try:
        full = min(policy.cap, policy.base * policy.factor ** (failures - 1))
    except OverflowError:
        full = policy.cap if policy.base else 0.0
    return full / 2 + full / 2 * jitter
