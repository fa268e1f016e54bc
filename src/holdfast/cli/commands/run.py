"""`holdfast run`: a node."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.app.preparing import loop_factory
from holdfast.cli.logs import set_up_logs
from holdfast.cli.session import Session, shared
from holdfast.worker.signals import exit_process, install_signals

if TYPE_CHECKING:
    from holdfast.app.holdfast import Holdfast
    from holdfast.cli.output import Output
    from holdfast.config import Settings
    from holdfast.hub.parts import NodeInfo
    from holdfast.node.node import Node


@click.command("run")
@click.argument("app", required=False, metavar="[MODULE:APP]")
@click.option("--workers", "-w", "worker_count", metavar="N", help="Jobs that run at once (default 8).")
@click.option("--timeout", "-t", "task_timeout", metavar="3s", help="Time limit of attempts whose task names none.")
@click.option("--snapshot", "-s", "snapshot_interval", metavar="2s", help="Least time between two snapshots.")
@click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME=N", help='Serve this queue; "=serial": one at a time.'
)
@click.option("--max-retry", "max_retry", metavar="N", help="Attempts of jobs whose task names no number (default 5).")
@click.option("--grace", metavar="30s", help="How long a stopping node waits for its handlers.")
@click.option("--host", metavar="ADDRESS", help="Address of the HTTP API (default 127.0.0.1).")
@click.option("--port", metavar="PORT", help="Port of the HTTP API (default 7420; 0 picks a free one).")
@click.option("--no-http", is_flag=True, help="Serve the API on the socket in the data folder alone.")
@click.option("--metrics-port", metavar="PORT", help="Port of the metrics (default 9090; 0: only /metrics of the API).")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, human or json.")
@shared()
def command(session: Session, no_http: bool, **options: Any) -> int:
    """Run a node: store, worker, HTTP API and metrics in one process.

    MODULE:APP names the app whose tasks it runs, such as shop.tasks:app; without one it serves the store and the API alone.
    SIGTERM or Ctrl-C: once drains, twice cancels the handlers, three times ends it now.
    """
    session.flag(http=False if no_http else None, **options)
    settings = session.settings
    set_up_logs(settings)
    app = _load(settings)
    return run_node(settings, app, session.out, session.who)


def _load(settings: Settings) -> Holdfast | None:
    if settings.app is None:
        return None
    from holdfast.app import load_app

    return load_app(settings.app)


def run_node(settings: Settings, app: Holdfast | None, out: Output, who: str) -> int:
    """Run a node, or without an app a hub, for the person `who`; return its exit code."""
    from holdfast.node.node import Node

    async def serve() -> int:
        node = Node(settings, app)
        with install_signals(node.stop):
            code = await node.run(lambda info: _banner(info, out, _link(node, who)))
        if node.zombies:
            # All is closed but handlers that would not stop. They keep the loop, and their threads the process, from
            # ending: leave without them, and before the loop waits for them.
            exit_process(code)
        return code

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(serve())


def _link(node: Node, who: str) -> str | None:
    """The way in for a person. A link is a secret: it goes to a terminal, and into no log."""
    if sys.stdout.isatty():
        return node.invite(who) or None
    return "holdfast hub open" if node.info().url else None


def _banner(info: NodeInfo, out: Output, link: str | None) -> None:
    """Say where everything is. The last line comes when everything answers."""
    if out.as_json:
        out.value(info)
        sys.stdout.flush()
        return
    title = click.style(f"holdfast {info.version}", bold=True)
    out.line(f"{title}  node on {info.host}, pid {info.pid}")
    recovery = f"{info.recovery:.3f} s" if info.recovery is not None else None
    out.pairs(
        [
            ("store", f"{info.store} ({'durable' if info.durable else 'in memory'})"),
            ("data", info.data),
            ("socket", f"{info.data}/node.sock" if info.data else None),
            ("api", info.url),
            ("token", f"{info.data}/token (changes over TCP need it)" if info.data and info.url else None),
            ("open", link),
            ("metrics", info.metrics),
            ("recovery", recovery),
            ("workers", info.slots or "none: no app was named, so nothing is run"),
            ("tasks", ", ".join(info.tasks)),
            ("queues", ", ".join(info.queues)),
        ]
    )
    out.line(click.style("ready", fg="green", bold=True))
    sys.stdout.flush()
