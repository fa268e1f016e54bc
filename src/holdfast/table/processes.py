"""A service in several processes under one that starts, watches and beats for them, as for the worker of jobs.

When a process dies, the table is told at once: what it held is run again, one such row to a process, until the row that
kills is found and fails; its neighbours are not blamed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import BadAppModule, ConfigError
from holdfast.table.service import TaskService
from holdfast.worker.supervisor import Supervision, supervise

if TYPE_CHECKING:
    from holdfast.worker.options import WorkerOptions

#: The program of one process.
PROGRAM: Final = "holdfast.table.supervised"


async def serve_in_processes(service: TaskService[Any], name: str, processes: int, options: WorkerOptions) -> int:
    """Keep `processes` processes working until a signal says stop; return the exit code. name: of `service` in a module."""
    if not name:
        raise ConfigError(
            f"service: expected the name under which {processes} processes import it, found none. "
            'Write service.serve(processes=4, name="shop.work:service").'
        )
    table = service.table
    await table.checked()
    table.leases.join(service, options.lease)
    try:
        await table.check_lease(options.lease)
        plan = Supervision(app=name, processes=processes, options=options, program=PROGRAM)
        return await supervise(table, plan)
    finally:
        table.leases.leave(service)


def load_service(name: str) -> TaskService[Any]:
    """Import `module:attribute` and return the service there. Raises BadAppModule, which says what was found."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise BadAppModule(f"service: expected module:attribute, as in shop.work:service, found {name!r}. Name both.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BadAppModule(f"service: importing {module_name!r} failed: {error}. Start where it is found.") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, TaskService):
        raise BadAppModule(f"service: expected {name} to be a TaskService, found {type(found).__name__}.")
    return found
