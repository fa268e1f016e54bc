"""Workers: configurations that people keep, and when they were heard of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.job import commands as c
from holdfast.stores.sql.slice import Need, carry_out

if TYPE_CHECKING:
    from holdfast.job.model import WorkerConfig
    from holdfast.stores.sql.script import Script, Step


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
