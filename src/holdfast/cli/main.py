"""The group of commands, each imported when it is called; and the edge where every error becomes one message and a code."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command -> the module that holds it, under the same name with `_` for `-`.
COMMANDS: Final = {
    "run": "A node: store, worker, HTTP API and metrics in one process.",
    "hub": "The HTTP API and status page of a store, without a worker; links that let people in.",
    "worker": "Worker processes on a journal, a database or a hub.",
    "enqueue": "Enqueue one job, or those of a file.",
    "status": "What the node does, and how many jobs are in each state.",
    "stats": "How attempts ended, how long they waited and ran; hour by hour.",
    "jobs": "List, show, explain and steer jobs.",
    "queues": "List, pause, stop, resume, change and forget queues.",
    "tasks": "List, show, make, switch and run tasks.",
    "schedules": "List, show, make, edit, run, pause and resume schedules.",
    "workers": "List worker processes.",
    "sticky": "Who owns which key of a sticky service; move a key, empty a pod.",
    "audit": "Who did what, and to how many.",
    "export": "Write all that a store holds to a file.",
    "import": "Read such a file into another store.",
    "config": "Every setting with its value and where it came from.",
    "tokens": "Make, list and revoke tokens of the API.",
    "doctor": "Look for what is wrong or may go wrong.",
    "journal": "Verify, dump, repair, back up and restore a journal.",
    "migrate": "Bring the schema of a store up to date.",
    "ddl": "Print the statements that make, or adopt, a task table.",
    "bench": "Measure this machine.",
}


class Lazy(click.Group):
    """A group whose commands are imported when they are called: `--help` and one command cost no more than they need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"holdfast.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is told with the nearest."""
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(error.message + hint, ctx) from None


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --json, --data, --url, --config and --debug. Exit codes: docs/cli.md.",
)
@click.version_option(package_name="holdfast", prog_name="holdfast")
def holdfast() -> None:
    """Durable tasks for Python."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. Every error is one message; --debug shows the traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        answer: Any = holdfast.main(args=given, prog_name="holdfast", standalone_mode=False)
        sys.stdout.flush()
        return int(answer) if isinstance(answer, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _usage(error, given)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in given:
            raise
        return _failed(error, given)


def _usage(error: click.ClickException, given: list[str]) -> int:
    if "--json" in given:
        _tell_json("UsageError", error.format_message(), 2)
    else:
        error.show()
    return 2


def _failed(error: Exception, given: list[str]) -> int:
    from holdfast.cli.exits import Exit, exit_of

    code = exit_of(error)
    text = str(error)
    if not isinstance(error, HoldfastError):
        code = Exit.BUG
        text = f"something of ours broke: {type(error).__name__}: {error}. Run it again with --debug to see where."
    if "--json" in given:
        _tell_json(type(error).__name__, text, code)
    else:
        click.echo(f"{click.style('error', fg='red', bold=True)}: {text}", err=True)
    return int(code)


def _tell_json(kind: str, text: str, code: int) -> None:
    click.echo(json.dumps({"error": {"code": kind, "message": text, "exit": int(code)}}, ensure_ascii=False), err=True)
