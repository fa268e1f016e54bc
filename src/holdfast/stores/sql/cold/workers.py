"""Workers: configurations that people keep, and processes that were seen to die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.job import commands as c
from holdfast.stores.sql.rows import RUNNING
from holdfast.stores.sql.slice import Need, carry_out

if TYPE_CHECKING:
    from holdfast.job.model import WorkerConfig
    from holdfast.stores.sql.script import Script, Step

#: The state stands in the text, so that an index that holds running jobs only is found.
_RUNNING: Final = f"SELECT seq FROM {{job}} WHERE instance = ? AND state = {RUNNING}"


def configure_worker(step: Step, command: c.ConfigureWorker) -> Script[WorkerConfig]:
    """Make or replace a worker's configuration."""
    yield from step.db.lock("worker", [command.config.name])
    _, answer = yield from carry_out(step, command, Need(workers=[command.config.name]))
    config: WorkerConfig = answer
    return config


def delete_worker(step: Step, command: c.DeleteWorker) -> Script[None]:
    """Forget a worker's configuration."""
    yield from carry_out(step, command, Need(workers=[command.name]))


def worker_beat(step: Step, command: c.WorkerBeat) -> Script[bool]:
    """Note when a configured worker was last heard of; False if there is none of that name."""
    _, answer = yield from carry_out(step, command, Need(workers=[command.name]))
    known: bool = answer
    return known


def instance_died(step: Step, command: c.InstanceDied) -> Script[int]:
    """End the claims of a process that was seen to die, as crashed; return how many there were."""
    rows = yield step.db.q(_RUNNING, command.instance)
    need = Need(seqs=[seq for (seq,) in rows], instances=[command.instance])
    _, answer = yield from carry_out(step, command, need)
    count: int = answer
    return count
