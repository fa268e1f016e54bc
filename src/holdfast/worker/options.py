"""How a worker is set up: one frozen value, checked at once, all faults listed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from holdfast.errors import ConfigError
from holdfast.job.ids import check_name
from holdfast.job.model import DEFAULT_QUEUE

CONCURRENCY_DEFAULT: Final = 10
CONCURRENCY_MAX: Final = 100_000
#: Jobs of one claim, and of one settle. With 500 a database pays a twentieth more for each: every batch is a sync.
CLAIM_MAX: Final = 1_000
#: Two claims' worth: while one is run the next is on its way, and both are whole. With one claim's worth each claim would
#: ask for the half of it.
BUFFER_MAX: Final = 2 * CLAIM_MAX
PORT_MAX: Final = 65_535
SERIAL: Final = "serial"

Concurrency = int | Literal["serial"]


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker takes and how long it waits. All durations are seconds.

    queues: queue name -> how many of its jobs run here at once (1 … 100,000), or "serial": one at a time; its order is
        the order of `strict`. slots: how many jobs run here at once over all queues; None: the sum over the queues.
    weights: queue name -> share (1 …) when `slots` are short; unnamed ones have 1. strict: earlier queues always first.
    lease: how long a claim lives without a beat. beat: seconds between heartbeats, at most a third of the lease.
    poll: the longest sleep after an empty answer, for queues without an interval of their own.
    grace: how long a drain waits before handlers are cancelled.
    cancel_grace: overrides, when given, how long each program's handlers may take to stop.
    buffer: how many jobs beyond the free slots may be claimed ahead when jobs are short; 0: none.
    zombies: share of the slots that abandoned handlers may hold before the worker drains with exit code 75.
    metrics_port: where this process serves its metrics (of several processes each takes the next one); None, 0: nowhere.
        metrics_host: the address; metrics_hosts: more names that it is reached by.
    max_jobs_per_child, max_rss: of the process executor; jobs and bytes after which a child is replaced.
    """

    queues: Mapping[str, Concurrency] = msgspec.field(default_factory=lambda: {DEFAULT_QUEUE: CONCURRENCY_DEFAULT})
    slots: int | None = None
    weights: Mapping[str, int] = {}
    strict: bool = False
    lease: float = 30.0
    beat: float | None = None
    poll: float = 1.0
    grace: float = 30.0
    cancel_grace: float | None = None
    buffer: int = BUFFER_MAX
    zombies: float = 0.25
    max_jobs_per_child: int = 1_000
    max_rss: int | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    metrics_hosts: tuple[str, ...] = ()
    # What the instance's record shows.
    worker: str = "worker"
    version: str = ""
    labels: tuple[str, ...] = ()
    pod: int | None = None
    local: bool = True  # the store lives in this very process

    @property
    def beat_every(self) -> float:
        """Seconds between heartbeats."""
        return self.lease / 3 if self.beat is None else self.beat

    def checked(self) -> WorkerOptions:
        """Return these options; raise ConfigError that lists every fault."""
        # What has the wrong type is told alone: the other checks compare and divide.
        faults = _type_faults(self) or [*_queue_faults(self), *_number_faults(self)]
        if faults:
            raise ConfigError("the worker's options can not be used:", faults)
        return self


_SECONDS: Final = ("lease", "poll", "grace", "zombies")
_SECONDS_OR_NONE: Final = ("beat", "cancel_grace")


def _type_faults(options: WorkerOptions) -> list[str]:
    faults = []
    for name, example in (("queues", '{"mail": 10}'), ("weights", '{"mail": 3}')):
        if not isinstance(value := getattr(options, name), Mapping):
            faults.append(f"{name}: expected a dict, as in {example}, found {value!r:.80}.")
    for name in (*_SECONDS, *_SECONDS_OR_NONE):
        value = getattr(options, name)
        if not _is_number(value) and not (value is None and name in _SECONDS_OR_NONE):
            what = "a share as a number" if name == "zombies" else "a number of seconds"
            faults.append(f"{name}: expected {what}, found {value!r:.80}.")
    if not _is_number(options.buffer):
        faults.append(f"buffer: expected 0 to {BUFFER_MAX}, found {options.buffer!r:.80}.")
    for name in ("max_jobs_per_child", "max_rss"):
        value = getattr(options, name)
        if not _is_count(value, 2**63) and not (value is None and name == "max_rss"):
            faults.append(f"{name}: expected a whole number from 1, found {value!r:.80}.")
    port = options.metrics_port
    if port is not None and port != 0 and not _is_count(port, PORT_MAX):
        faults.append(f"metrics_port: expected a whole number from 1 to {PORT_MAX:,}, or 0, found {port!r:.80}.")
    return faults


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _queue_faults(options: WorkerOptions) -> list[str]:
    faults = [] if options.queues else ['queues: expected at least one, found none. Write queues={"default": 10}.']
    for name, concurrency in options.queues.items():
        try:
            check_name(name, "queues")
        except ConfigError as error:
            faults.append(str(error))
        if concurrency != SERIAL and not _is_count(concurrency, CONCURRENCY_MAX):
            faults.append(
                f'queues[{name!r}]: expected "serial" or a whole number from 1 to {CONCURRENCY_MAX:,}, '
                f"found {concurrency!r}."
            )
    for name, weight in options.weights.items():
        if name not in options.queues:
            faults.append(f"weights[{name!r}]: expected one of the queues ({', '.join(options.queues)}).")
        if not _is_count(weight, 1_000):
            faults.append(f"weights[{name!r}]: expected a whole number from 1 to 1,000, found {weight!r}.")
    if options.strict and options.weights:
        faults.append("expected strict=True or weights, found both. Strict order leaves nothing to weigh.")
    return faults


def _number_faults(options: WorkerOptions) -> list[str]:
    faults = [
        f"{name}: expected {least} seconds or more, found {value!r}."
        for name, value, least in (
            ("lease", options.lease, 0.01),
            ("poll", options.poll, 0.001),
            ("grace", options.grace, 0.0),
            ("cancel_grace", 0.0 if options.cancel_grace is None else options.cancel_grace, 0.0),
            ("beat", options.beat_every, 0.001),
        )
        if not (least <= value and math.isfinite(value))
    ]
    # One beat may fail and the next must still come in time; with longer ones a single hiccup loses every job.
    if options.beat_every > options.lease / 3 + 1e-9:
        faults.append(f"beat: expected at most a third of the lease ({options.lease / 3:g} s), found {options.beat!r}.")
    if options.slots is not None and not _is_count(options.slots, CONCURRENCY_MAX):
        faults.append(f"slots: expected a whole number from 1 to {CONCURRENCY_MAX:,}, found {options.slots!r}.")
    if not 0 <= options.buffer <= BUFFER_MAX:
        faults.append(f"buffer: expected 0 to {BUFFER_MAX}, found {options.buffer!r}.")
    if not 0 < options.zombies <= 1:
        faults.append(f"zombies: expected a share above 0, up to 1, found {options.zombies!r}.")
    return faults


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
