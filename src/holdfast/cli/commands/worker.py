"""`holdfast worker`: worker processes on a store that others serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.logs import set_up_logs
from holdfast.cli.session import Session, shared

if TYPE_CHECKING:
    from holdfast.app.holdfast import Holdfast
    from holdfast.config import Settings


@click.command("worker")
@click.argument("app", required=False, metavar="MODULE:APP")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 1_000), help="Worker processes.")
@click.option("--workers", "-w", "worker_count", metavar="N", help="Jobs that run at once in each process (default 8).")
@click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME=N", help='Serve this queue; "=serial": one at a time.'
)
@click.option("--lease", metavar="30s", help="How long a claim lives without a heartbeat.")
@click.option("--grace", metavar="30s", help="How long a stopping worker waits for its handlers.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, human or json.")
@shared()
def command(session: Session, processes: int, **options: Any) -> int:
    """Run worker processes for the tasks of MODULE:APP, on the store that the app names.

    SIGTERM or Ctrl-C: once drains, twice cancels the handlers, three times ends them now.
    """
    from holdfast.app import load_app

    session.flag(**options)
    settings = session.settings
    if settings.app is None:
        raise click.UsageError("expected MODULE:APP, the app whose tasks are run.")
    set_up_logs(settings)
    app = load_app(settings.app)
    more = {"slots": settings.worker_count, "lease": settings.lease, "grace": settings.grace}
    queues = _queues(settings, app)
    if processes == 1:
        return app.run(queues, **more)
    return _supervise(settings.app, app, processes, queues, more)


def _queues(settings: Settings, app: Holdfast) -> dict[str, Any]:
    if settings.queues:
        return dict(settings.queues)
    return dict.fromkeys(["default", *(task.policy.queue for task in app.tasks)], settings.worker_count)


def _supervise(name: str, app: Holdfast, processes: int, queues: dict[str, Any], more: dict[str, Any]) -> int:
    import asyncio

    from holdfast.worker.options import WorkerOptions
    from holdfast.worker.supervisor import Supervision, supervise

    async def watch() -> int:
        async with app:
            plan = Supervision(app=name, processes=processes, options=WorkerOptions(queues=queues, **more))
            return await supervise(await app.open(), plan)

    return asyncio.run(watch())
