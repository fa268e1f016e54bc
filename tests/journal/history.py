"""What clients of a journal saw, written down outside of it, and what must follow from it whatever was killed when.

Each client appends one line of JSON per event to a file of its own: `invoke` before a call, `ok` after its answer. A call
without an `ok` has an unknown outcome. Times are CLOCK_BOOTTIME, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.job.state import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from holdfast.job.model import Job


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `call` pairs `ok` with its `invoke`. A claim's answer lists (id, token); a settle names its ending."""

    at: float
    life: int
    call: str
    kind: str  # enqueue, claim, settle
    phase: str  # invoke, ok
    ids: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    ending: str = ""
    accepted: str = ""


class Recorder:
    """Appends to one file, in a way that a killed process can not undo."""

    def __init__(self, path: Path, life: int) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._life, self._name, self._calls = life, path.stem, 0

    def invoke(self, kind: str, **fields: Any) -> str:
        """Write that a call begins; return its name."""
        self._calls += 1
        call = f"{self._name}-{self._calls}"
        self._write(call, kind, "invoke", fields)
        return call

    def ok(self, call: str, kind: str, **fields: Any) -> None:
        """Write that it was answered."""
        self._write(call, kind, "ok", fields)

    def _write(self, call: str, kind: str, phase: str, fields: dict[str, Any]) -> None:
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        event = Event(at=at, life=self._life, call=call, kind=kind, phase=phase, **fields)
        os.write(self._handle, msgspec.json.encode(event) + b"\n")


def events_in(folder: Path) -> list[Event]:
    """All events, by time."""
    found = [
        msgspec.json.decode(line, type=Event)
        for path in folder.glob("*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
    return sorted(found, key=lambda event: event.at)


def payload_of(job_id: str) -> bytes:
    """The payload that tells which job it belongs to."""
    return msgspec.json.encode({"id": job_id, "hash": hashlib.blake2b(job_id.encode()).hexdigest()})


def violations(events: list[Event], jobs: Iterable[Job]) -> list[str]:
    """Return every promise that was broken. An empty list is a good history."""
    found = {job.id: job for job in jobs}
    return [
        *_enqueues(events, found),
        *_tokens(events),
        *_leases(events),
        *_settles(events, found),
        *_records(found),
    ]


def _enqueues(events: list[Event], jobs: dict[str, Job]) -> Iterator[str]:
    """I1, I2: what was acknowledged is there; what is there was asked for, byte for byte."""
    asked = {job_id for event in events if event.kind == "enqueue" for job_id in event.ids}
    kept = {job_id for event in events if (event.kind, event.phase) == ("enqueue", "ok") for job_id in event.ids}
    yield from (f"lost: {job_id} was acknowledged" for job_id in kept - jobs.keys())
    yield from (f"phantom: {job_id} was never asked for" for job_id in jobs.keys() - asked)
    yield from (f"altered: {job.id}" for job in jobs.values() if job.payload != payload_of(job.id))


def _claims(events: list[Event]) -> Iterator[tuple[Event, str, int]]:
    for event in events:
        if (event.kind, event.phase) == ("claim", "ok"):
            yield from ((event, job_id, token) for job_id, token in zip(event.ids, event.tokens, strict=True))


def _tokens(events: list[Event]) -> Iterator[str]:
    """I4: no token twice, and they grow."""
    last: dict[str, int] = {}
    for event, job_id, token in _claims(events):
        if token <= last.get(job_id, 0):
            yield f"token: {job_id} was claimed with {token} after {last[job_id]} (call {event.call})"
        last[job_id] = max(token, last.get(job_id, 0))


def _leases(events: list[Event]) -> Iterator[str]:
    """I5: within one life a job is claimed again only after its holder began to settle it."""
    held: dict[str, tuple[int, int]] = {}
    for event in events:
        if event.kind == "settle" and event.phase == "invoke":
            if held.get(event.ids[0]) == (event.life, event.tokens[0]):
                del held[event.ids[0]]
        elif (event.kind, event.phase) == ("claim", "ok"):
            for job_id, token in zip(event.ids, event.tokens, strict=True):
                if job_id in held and held[job_id][0] == event.life and held[job_id][1] < token:
                    yield f"lease: {job_id} was claimed while token {held[job_id][1]} held it"
                held[job_id] = (event.life, token)


def _settles(events: list[Event], jobs: dict[str, Job]) -> Iterator[str]:
    """I3, I4: one terminal settle, by the newest token, and it is what is stored."""
    applied: dict[str, list[Event]] = defaultdict(list)
    begun = {event.call: event for event in events if (event.kind, event.phase) == ("settle", "invoke")}
    claims: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for event, job_id, token in _claims(events):
        claims[job_id].append((event.at, token))
    done = [event for event in events if (event.kind, event.phase, event.accepted) == ("settle", "ok", "applied")]
    # By token, not by time: a client may write down its answer after another one was given, and settled, the next claim.
    for event in sorted(done, key=lambda event: event.tokens):
        [job_id], [token], invoked = event.ids, event.tokens, begun[event.call].at
        if any(at < invoked and newer > token for at, newer in claims[job_id]):
            yield f"stale: token {token} of {job_id} settled after a newer claim was answered"
        if any(earlier.tokens == event.tokens for earlier in applied[job_id]):
            yield f"double: token {token} of {job_id} was applied twice"
        if any(earlier.ending == "succeeded" for earlier in applied[job_id]):
            yield f"double: {job_id} was settled after it had succeeded"
        applied[job_id].append(event)
    asked = {(e.ids[0], e.tokens[0]) for e in begun.values() if e.ending == "succeeded"}
    for job_id, settles in applied.items():
        job, last = jobs.get(job_id), settles[-1]
        if last.ending == "succeeded" and (job is None or job.state is not State.SUCCEEDED):
            yield f"undone: {job_id} had succeeded"
    for job in jobs.values():
        if job.state is State.SUCCEEDED and (job.id, job.token) not in asked:
            yield f"phantom end: {job.id} succeeded and nobody said so"


def _records(jobs: dict[str, Job]) -> Iterator[str]:
    """I3, I7: what a record says about itself."""
    for job in jobs.values():
        numbers = [attempt.number for attempt in job.attempts]
        if numbers != list(range(1, job.attempt + 1))[-len(numbers) :]:
            yield f"attempts: {job.id} has {numbers} of {job.attempt}"
        if (job.state in FINAL) != (job.finished_at is not None):
            yield f"state: {job.id} is {job.state} and finished at {job.finished_at}"
