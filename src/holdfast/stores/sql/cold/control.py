"""Control: actions on jobs by ids, and operations by filter.

By ids: one step by the ledger's rules. By a filter: the operation's row is locked first, so that of several that go on
with it one acts at a time, and a cancel waits for the batch that is being done. A batch is the next jobs that match, in
order of acceptance; they are looked at again when they are locked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job import commands as c
from holdfast.job.ledger.control import begin_operation, checked_order, do_batch, operation_action, operation_filter
from holdfast.job.ledger.query import matching
from holdfast.job.ledger.search import windowed
from holdfast.job.model import Operation, OperationState
from holdfast.stores.sql import filters, searching
from holdfast.stores.sql.cold.audit import trim_audit
from holdfast.stores.sql.damage import job_of
from holdfast.stores.sql.rows import seconds
from holdfast.stores.sql.slice import Need, carry_out, do, load, write_back

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job.facts import Fact
    from holdfast.job.ledger import Ledger
    from holdfast.stores.sql.script import Script, Step

_UNFINISHED: Final = "SELECT id FROM {operation} WHERE state = 'running' ORDER BY created_at, id LIMIT 1 {skip}"
_MAX_SEQ: Final = "SELECT coalesce((SELECT max(seq) FROM {job}), 0), coalesce((SELECT max(seq) FROM {done}), 0)"


def order(step: Step, command: c.Order) -> Script[c.Ordered]:
    """Do an action on a selection; for a filter, only begin its operation."""
    command = checked_order(command)
    which = command.selection.filter
    if which is not None:
        return (yield from _begin(step, command, which))
    ids = list(dict.fromkeys(command.selection.ids))
    _, answer = yield from carry_out(step, command, _need(command.action, ids=ids))
    yield from trim_audit(step)
    ordered: c.Ordered = answer
    return ordered


def _need(action: c.Action, **jobs: Any) -> Need:
    if not isinstance(action, c.Edit | c.Replay):
        return Need(holders=isinstance(action, c.Retry), **jobs)
    queues = [action.queue] if action.queue is not None else []
    # Arguments must fit the tasks of the jobs, and which these are is not known before the jobs are read.
    return Need(queues=queues, definitions=action.payload is not None, **jobs)


def _begin(step: Step, command: c.Order, which: c.JobFilter) -> Script[c.Ordered]:
    [[live, done]] = yield step.db.q(_MAX_SEQ)
    now = seconds((yield from step.now()))
    which = windowed(which, now)
    matched = yield from searching.count(step, which)
    part = yield from load(step, Need())
    facts, answer = _apply(part.ledger, begin_operation(command, which, matched, max(live, done), now, step.draw))
    yield from write_back(step, part, facts)
    return answer


def continue_operation(step: Step, operation_id: str) -> Script[c.Ordered]:
    """Do the next batch of an operation. Its answer's operation tells whether there is more."""
    yield step.db.q("SELECT state FROM {operation} WHERE id = ? {lock}", operation_id)
    part = yield from load(step, Need(operations=[operation_id]))
    operation = part.ledger.operations.get(operation_id)
    if operation is None or operation.state is not OperationState.RUNNING:
        # Unknown, done or canceled: the ledger's own rule has the word for it.
        _, answer = yield from do(step, part, c.ContinueOperation(id=operation_id))
        ordered: c.Ordered = answer
        return ordered
    return (yield from _next_batch(step, operation))


def go_on(step: Step) -> Script[bool]:
    """Do the next batch of the oldest operation that is not done and that nobody is at; tell whether there is more of it.

    Who began an operation keeps its row while it does a batch, so that one whose process lives is passed over.
    """
    rows = yield step.db.q(_UNFINISHED)
    if not rows:
        return False
    answer = yield from continue_operation(step, rows[0][0])
    return answer.operation is not None and answer.operation.state is OperationState.RUNNING


def _next_batch(step: Step, operation: Operation) -> Script[c.Ordered]:
    which, limit = operation_filter(operation), c.OPERATION_BATCH
    rows = yield filters.span(step.db, which, operation.after_seq, operation.upto_seq, limit)
    seqs = [row[0] for row in rows if matching(job_of(row), which)]
    part = yield from load(step, _need(operation_action(operation), seqs=seqs))
    batch = [job for seq in seqs if (job := part.loaded.get(seq)) is not None and matching(job, which)]
    upto = rows[-1][0] if rows else operation.upto_seq
    now = seconds((yield from step.now()))
    decision = do_batch(part.ledger, operation, batch, upto, now, step.draw, ended=len(rows) < limit)
    facts, answer = _apply(part.ledger, decision)
    yield from write_back(step, part, facts)
    return answer


def cancel_operation(step: Step, command: c.CancelOperation) -> Script[Operation]:
    """Stop an operation after the batch it is in."""
    _, answer = yield from carry_out(step, command, Need(operations=[command.id]))
    operation: Operation = answer
    return operation


def _apply(ledger: Ledger, decision: Generator[Fact, None, c.Ordered]) -> tuple[list[Fact], c.Ordered]:
    """Apply what is decided as it is decided; return the facts and the answer."""
    facts: list[Fact] = []
    while True:
        try:
            fact = next(decision)
        except StopIteration as end:
            answer: c.Ordered = end.value
            return facts, answer
        ledger.apply(fact)
        facts.append(fact)
