"""`decide(ledger, command, now, draw)`: the one door to the rules. Yields facts; returns the answer.

The caller applies what it was given before it asks for more: a fact, or a list of facts that were decided together (see
`runs`). A decision that raises has yielded nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job import commands as c
from holdfast.job.ledger import (
    admin,
    auditing,
    claiming,
    control,
    enqueueing,
    external,
    importing,
    links,
    settling,
    upkeep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from holdfast.job.draw import Draw
    from holdfast.job.facts import Fact, Some
    from holdfast.job.ledger.ledger import Ledger

    Decision = Generator[Some, None, Any]

_RULES: Final[Mapping[type, Callable[[Ledger, Any, float, Draw], Decision]]] = {
    c.Enqueue: enqueueing.enqueue,
    c.Want: claiming.claim,
    c.SettleAll: settling.settle_all,
    c.ProgressAll: settling.progress_all,
    c.Beat: upkeep.beat,
    c.Rescue: upkeep.rescue,
    c.InstanceDied: upkeep.instance_died,
    c.Open: upkeep.opened,
    c.Order: control.order,
    c.ContinueOperation: control.continue_operation,
    c.CancelOperation: control.cancel_operation,
    c.ChangeQueue: admin.change_queue,
    c.DeleteQueue: admin.delete_queue,
    c.DefineAll: admin.define_all,
    c.ChangeDefinition: admin.change_definition,
    c.DeleteDefinition: admin.delete_definition,
    c.SaveSchedule: admin.save_schedule,
    c.FireSchedule: admin.fire_schedule,
    c.ConfigureWorker: admin.configure_worker,
    c.DeleteWorker: admin.delete_worker,
    c.RecordJobs: external.record_jobs,
    c.RecordStatuses: external.record_statuses,
    c.RecordAttempts: external.record_attempts,
    c.Export: external.export,
    c.WorkerBeat: external.worker_beat,
    c.Audit: auditing.audit,
    c.Import: importing.import_jobs,
    c.ImportRecords: importing.import_records,
    c.Bind: links.bind,
}


def decide(ledger: Ledger, command: object, now: float, draw: Draw) -> Decision:
    """Return the decision of a command: a generator of facts that returns the answer."""
    return _RULES[type(command)](ledger, command, now, draw)


def execute(
    ledger: Ledger, command: object, now: float, draw: Draw, facts: list[Fact] | None = None
) -> tuple[list[Fact], Any]:
    """Decide a command and apply its facts; return them with the answer.

    `now` is in seconds since the epoch and never steps back. Raises what the decision raises; then nothing was applied. They
    stand in `facts`, where a list is given, before they are applied, also when something breaks.
    """
    facts = [] if facts is None else facts
    following = decide(ledger, command, now, draw).__next__
    while True:
        try:
            made = following()
        except StopIteration as end:
            return facts, end.value
        if isinstance(made, list):
            facts += made
            ledger.apply_run(made)
        else:
            facts.append(made)
            ledger.apply(made)
