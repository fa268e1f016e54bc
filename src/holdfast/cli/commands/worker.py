"""`holdfast worker`: worker processes on a journal, a database or a hub."""

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
@click.option(
    "--metrics-port", metavar="PORT", help="Port of the metrics; of several processes each takes the next one."
)
@click.option("--metrics-host", metavar="ADDRESS", help="Address of the metrics (default 127.0.0.1).")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, human or json.")
@shared()
def command(session: Session, processes: int, **options: Any) -> int:
    """Run worker processes for the tasks of MODULE:APP.

    On the store of --url or --data if one was set, else on the one that the app names. A journal is used through the node
    that owns it; where there is none, this process owns it and serves it.
    SIGTERM or Ctrl-C: once drains, twice cancels the handlers, three times ends them now.
    """
    from holdfast.app import load_app

    session.flag(**options)
    settings = session.settings
    if settings.app is None:
        raise click.UsageError("expected MODULE:APP, the app whose tasks are run.")
    as_json, level = set_up_logs(settings)
    app = load_app(settings.app)
    more: dict[str, Any] = {"slots": settings.worker_count, "lease": settings.lease, "grace": settings.grace}
    if session.resolved.origin("metrics_port") != "default":
        # By itself a worker serves nothing: several of them, and a node, may be on this machine.
        more |= {name: getattr(settings, name) for name in ("metrics_port", "metrics_host")}
        more["metrics_hosts"] = settings.hosts
    queues = _queues(settings, app)
    chosen = _choose(session, app)
    if processes == 1:
        return app.run(queues, **more)
    from holdfast.app.processes import run_processes
    from holdfast.worker.supervisor import LogForm

    return run_processes(app, settings.app, processes, queues, more, chosen=chosen, log=LogForm(as_json, level))


def _choose(session: Session, app: Holdfast) -> bool:
    """Let the app use the store of the settings, if they name one or the app names none that others share."""
    was_set = any(session.resolved.origin(name) != "default" for name in ("url", "data"))
    if was_set or app.url == "memory:":
        app.use(session.url, **session.store_options)
        return True
    return False


def _queues(settings: Settings, app: Holdfast) -> dict[str, Any]:
    if settings.queues:
        return dict(settings.queues)
    return dict.fromkeys(["default", *(task.policy.queue for task in app.tasks)], settings.worker_count)
