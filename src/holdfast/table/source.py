"""A user's table as a `Source`: claim, settle, progress, heartbeat, rescue, in the user's own database.

The worker is the one that runs jobs; nothing here knows it. Each call is one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from msgspec import json
from msgspec.structs import replace
from sqlalchemy import select

from holdfast.job.commands import Accepted, Held, Rescued, Settled, Signals, Succeeded
from holdfast.job.state import End, State
from holdfast.store import Capabilities
from holdfast.table.claims import Claiming
from holdfast.table.columns import micros
from holdfast.table.gate import Gate
from holdfast.table.leases import Leases
from holdfast.table.rows import KEYS_MAX, Rows
from holdfast.table.rules import Change, Judge, Row, read_note, with_progress, write_note
from holdfast.table.sameness import same
from holdfast.table.successes import Successes
from holdfast.table.update import columns_of
from holdfast.table.waking import Waking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from holdfast.job.commands import Beat, Claim, Claims, InstanceDied, Progress, Settlement, Want
    from holdfast.job.retry import RetryPolicy
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

_SECOND: Final = 1_000_000
_RUNNING: Final = State.RUNNING
_APPLIED, _REPEATED = Accepted.APPLIED, Accepted.REPEATED
_WAITING: Final = frozenset({State.QUEUED, State.SCHEDULED, State.RETRYING})


class TableSource(Generic[M]):
    """Rows of one table as a worker's items."""

    def __init__(self, shape: Shape[M], gate: Gate, retry: RetryPolicy) -> None:
        self.shape, self._gate = shape, gate
        self._rows = Rows(shape, gate)
        self._judge = Judge(shape.name, shape.words, retry, shape.error_kept)
        self._leases = Leases(shape.name, self._rows, gate.place)
        self._claiming = Claiming(shape, gate, self._rows, self._leases)
        self._successes = Successes(shape, gate, self._rows, self._judge)
        self._waking = Waking()
        self._words = shape.words
        self._on_cancel: set[Callable[[], None]] = set()

    @property
    def gate(self) -> Gate:
        """The way to the database."""
        return self._gate

    @property
    def rows(self) -> Rows[M]:
        """Its statements."""
        return self._rows

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often a row may fail, and how long it waits between."""
        return self._judge.retry

    @retry_policy.setter
    def retry_policy(self, policy: RetryPolicy) -> None:
        self._judge.retry = policy

    @property
    def capabilities(self) -> Capabilities:
        """What a task table can do."""
        return Capabilities(durable=True, push=False, many_processes=True, transactional=True)

    # --- claim -----------------------------------------------------------------------------------------------------

    async def claim(self, want: Want) -> Claims[M]:
        """Hand out ready rows, the oldest first, each as a detached instance. What is due is promoted first."""
        cursor = self._waking.version
        limit = min(want.limit, sum(one.limit for one in want.queues if one.queue == self.shape.name))
        limit = min(limit, KEYS_MAX)
        claims, now = await self._gate.run(lambda one: self._claiming.claim(one, want, limit, cursor))
        if not claims.items and claims.next_due is not None and claims.next_due <= now:
            # What is due is just being promoted by somebody else, who holds it: wait for that, or it would seem not there.
            claims, _ = await self._gate.run(lambda one: self._claiming.claim(one, want, limit, cursor, patient=True))
        if claims.items:
            self._leases.welcome(want.instance)
        return claims

    # --- settle and progress ---------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement[M]]) -> list[Settled]:
        """End attempts: state and columns in one fenced write each. Per row: applied, repeated or stale."""
        if not settlements:
            return []
        answers: list[Settled] = await self._gate.run(lambda connection: self._settle(connection, settlements))
        # What was put off wakes too: the claim that follows tells when it is due, which nobody knew before.
        if any(answer.state in _WAITING and answer.accepted is _APPLIED for answer in answers):
            self._waking.wake()
        return answers

    def _settle(self, connection: Connection, settlements: Sequence[Settlement[M]]) -> list[Settled]:
        keys = [self._key(connection, one.claim) for one in settlements]
        answers = self._successes.write(connection, keys, settlements)
        if len(answers) < len(settlements):
            rest = [place for place in range(len(settlements)) if place not in answers]
            found = self._settle_each(connection, [keys[at] for at in rest], [settlements[at] for at in rest])
            answers.update(zip(rest, found, strict=True))
        return [answers[place] for place in range(len(settlements))]

    def _settle_each(
        self, connection: Connection, keys: list[Key | None], settlements: Sequence[Settlement[M]]
    ) -> list[Settled]:
        """Lock the rows, rule on each in the order of the batch, and write."""
        found, now = self._rows.locked(connection, [key for key in keys if key is not None])
        answers: list[Settled] = []
        plain: list[Row] = []
        changes: list[Change] = []
        said: dict[Key | None, Mapping[str, Any]] = {}
        for key, settlement in zip(keys, settlements, strict=True):
            row = found.get(key) if key is not None else None
            answer, change = self._judge.settle(row, settlement, now)
            own = columns_of(getattr(settlement.ending, "update", None))
            if answer.accepted is _REPEATED and own and not self._holds(connection, key, own, said.get(key)):
                answer, change = self._judge.refusal(row, answer.id, answer.token)
            answers.append(answer)
            if change is None or key is None:
                continue
            own = own if answer.accepted is _APPLIED else {}
            said.setdefault(key, own)
            if not own and type(settlement.ending) is Succeeded and change.values["task_note"] == _note(change.row):
                plain.append(change.row)
            else:
                changes.append(Change(change.row, {**change.values, **own}))
            found[key] = _after(change, answer)
        # What a batch ends twice is written in its order; the plain ones are no part of that.
        if plain:
            self._rows.set_all(connection, plain, self._judge.success(now))
        self._rows.write(connection, changes)
        return answers

    def _holds(
        self, connection: Connection, key: Key | None, own: Mapping[str, Any], said: Mapping[str, Any] | None
    ) -> bool:
        """Whether a repeated report says what was stored, or what this very batch is about to store."""
        kinds = {name: self.shape.own[name].type for name in own}
        stored = {} if key is None else self._rows.own_of(connection, key, list(own))
        stored = {**stored, **(said or {})}
        return all(name in stored and same(kinds[name], stored[name], value) for name, value in own.items())

    def _key(self, connection: Connection, claim: Claim[M]) -> Key | None:
        if claim.item is not None:
            return self.shape.key_of_instance(claim.item)
        # A claim whose answer was lost: the worker knows no row, only what the beat told it.
        rows = self._rows
        token = rows.column("task_token") == claim.token
        found, _ = rows.read(connection, rows.chosen(rows.in_state(self._words.running), token))
        return next((row.key for row in found if row.id == claim.id), None)

    async def progress(self, reports: Sequence[Progress[M]]) -> list[Settled]:
        """Write progress of running rows; an update names columns. A stale token is refused. Log lines are not kept.

        Raises BadColumns.
        """
        if not reports:
            return []
        return await self._gate.run(lambda connection: self._progress(connection, reports))

    def _progress(self, connection: Connection, reports: Sequence[Progress[M]]) -> list[Settled]:
        keys = [self._key(connection, one.claim) for one in reports]
        found, _ = self._rows.locked(connection, [key for key in keys if key is not None])
        answers: list[Settled] = []
        for key, report in zip(keys, reports, strict=True):
            row = found.get(key) if key is not None else None
            claim = report.claim
            if row is None or row.state is not _RUNNING or row.token != claim.token:
                answer, change = self._judge.refusal(row, claim.id, claim.token)
            else:
                note = with_progress(row.note, report.value)
                own = self.shape.check_update(json.decode(report.update)) if report.update else {}
                answer = Settled(row.id, row.token, _APPLIED, _RUNNING, row.run_at / _SECOND)
                change = Change(row, {"task_note": write_note(note), **own})
                found[row.key] = replace(row, note=note)
            answers.append(answer)
            if change is not None:
                self._rows.write(connection, [change])
        return answers

    # --- heartbeat, rescue, death ----------------------------------------------------------------------------------

    async def heartbeat(self, beat: Beat) -> Signals:
        """Extend the leases of an instance's rows; tell it what it holds and what to cancel."""
        held = await self._gate.run(lambda connection: self._beat(connection, beat))
        return Signals(tuple(held))

    def _beat(self, connection: Connection, beat: Beat) -> list[Held]:
        rows, lease = self._rows, micros(beat.lease)
        found, now = rows.read(connection, self._claiming.running_of(beat.instance.id))
        old = rows.column("task_lease_until") < now + lease - lease // 3
        # Those that are fresh are left alone: a beat of an idle or quick worker writes nothing. Those that are just being
        # settled are passed over: they are about to be let go.
        if any(row.lease_until < now + lease - lease // 3 for row in found):
            statement = self._claiming.running_of(beat.instance.id).where(old).with_for_update(skip_locked=True)
            locked, _ = rows.read(connection, statement)
            rows.set_all(connection, locked, {"task_lease_until": now + lease, "task_updated_at": now})
        return [Held(row.id, row.id, row.token, row.note.cancel is not None) for row in found]

    async def rescue(self, limit: int = 1_000) -> Rescued:
        """End claims whose lease has passed, and promote what is due."""
        rescued: Rescued = await self._gate.run(lambda connection: self._rescue(connection, limit))
        if rescued.lost or rescued.promoted:
            self._waking.wake()
        return rescued

    def _rescue(self, connection: Connection, limit: int) -> Rescued:
        rows = self._rows
        now = int(connection.execute(select(self._gate.now())).scalar_one())
        over = rows.free(limit, rows.in_state(self._words.running), rows.is_over(now))
        found, _ = rows.read(connection, over)
        ended = self._end(connection, found, End.LOST, now, "its lease ended")
        promoted = self._claiming.promote(connection, now, limit)
        more = limit in (len(found), promoted)
        return Rescued(lost=len(found), promoted=promoted, more=more, ended=tuple(ended))

    def _end(self, connection: Connection, rows: list[Row], end: End, now: int, reason: str) -> list[Settled]:
        """End rows whose worker is gone. To blame for a death is the suspect, or the only one; else nobody yet."""
        died = end is End.CRASHED
        suspects = {row.id for row in rows if row.note.suspect}
        blamed = suspects or ({rows[0].id} if len(rows) == 1 else set()) if died else set()
        answers: list[Settled] = []
        changes: list[Change] = []
        for row in rows:
            guilty = row.id in blamed
            suspect = died and (guilty or not suspects)
            answer, change = self._judge.gone(row, end, now, reason, blamed=guilty, suspect=suspect)
            answers.append(answer)
            changes.append(change)
        self._rows.write(connection, changes)
        return answers

    async def instance_died(self, died: InstanceDied) -> int:
        """End the claims of a process that was seen to die, as crashed, at once; return how many there were."""

        def work(connection: Connection) -> int:
            found, now = self._rows.read(connection, self._claiming.running_of(died.instance).with_for_update())
            self._end(connection, found, End.CRASHED, now, f"its process died: {died.detail}")
            return len(found)

        count = await self._gate.run(work)
        if count:
            self._waking.wake()
        return count

    # --- waiting ---------------------------------------------------------------------------------------------------

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as this process made a row ready that `cursor` did not see; False at `timeout` s."""
        return await self._waking.wait(cursor, timeout)

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever this process asks a running row to stop; return what ends this. Others are told by beats."""
        self._on_cancel.add(call)
        return lambda: self._on_cancel.discard(call)

    def beat_source(self) -> TableSource[M]:
        """Return a source for the heartbeat's thread, with connections for its loop."""
        other = TableSource(self.shape, self._gate.for_another_loop(), self._judge.retry)
        other._waking = self._waking
        return other

    async def close(self) -> None:
        """Let go what is ours; the engine is the user's."""
        await self._gate.close()


def _note(row: Row) -> str | None:
    return write_note(row.note)


def _after(change: Change, answer: Settled) -> Row:
    """Return a row as the next settlement of the same batch must see it: what is stored is still the old."""
    values = change.values
    run_at = values.get("task_run_at", change.row.run_at)
    return replace(change.row, state=answer.state, run_at=run_at, note=read_note(values.get("task_note")))
