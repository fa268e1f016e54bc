"""`holdfast journal`: verify, dump, repair, back up and restore a journal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from holdfast.cli.exits import Exit
from holdfast.cli.output import json_of
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError
from holdfast.wal import LogDamaged, LossRefused, OsFiles, backup, repair, restore, salvage, scan, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.wal import Frame


@click.group("journal")
def command() -> None:
    """Verify, dump, repair, back up and restore a journal."""


def _folder(session: Session) -> Path:
    """The folder of the journal, which must be there."""
    data = session.data
    if data is None:
        raise ConfigError(f"expected a journal, found the store {session.url!r}. Name its folder with --data.")
    if not data.is_dir():
        raise ConfigError(f"{data}: expected the folder of a journal, found none. Name it with --data.")
    if not any(data.iterdir()):
        raise ConfigError(f"{data}: expected a journal, found an empty folder. Name another with --data.")
    return data


@command.command("verify")
@shared()
def verify_journal(session: Session) -> int:
    """Read every file and say whether the journal opens; also beside a running node.

    Exit code 12 when it does not, and when a file is damaged that the journal opens without.
    """
    report = verify(OsFiles(_folder(session)))
    damage = str(report.damage) if report.damage is not None else None
    sound = report.damage is None and not report.damaged
    if session.out.as_json:
        fields = {name: getattr(report, name) for name in report.__struct_fields__ if name != "damage"}
        session.out.value({**msgspec.to_builtins(fields, enc_hook=str), "damage": damage, "ok": sound})
    else:
        rows = [
            (
                one.name,
                one.kind,
                one.size,
                f"{one.first}–{one.last}" if one.first else one.last or "",
                one.items or "",
                "ok" if one.bad_at < 0 else f"at byte {one.bad_at}: {one.problem}",
            )
            for one in report.files
        ]
        session.out.table(["file", "kind", "bytes", "numbers", "items", "state"], rows)
        for notice in report.notices:
            session.out.line(f"note: {msgspec.to_builtins(notice, enc_hook=str)}")
        session.out.line(
            damage or f"the journal opens: {report.last:,} numbers, {report.durable:,} known to be durable."
        )
        if damage is None and not sound:
            names = ", ".join(one.name for one in report.damaged)
            session.out.line(
                f"damaged: {names}. What they held is in newer files too. Look at the disk; take a backup while it opens."
            )
    return Exit.OK if sound else Exit.UNHEALTHY


@command.command("dump")
@click.option("--from", "first", default=1, type=click.IntRange(1), help="First number.")
@click.option("--segment", help="Every valid frame of this file, also behind damage.")
@shared()
def dump(session: Session, first: int, segment: str | None) -> int:
    """Print the journal as JSON lines that a person can read: number and facts of each step."""
    files = OsFiles(_folder(session))
    if segment is not None and "/" in segment.removeprefix("quarantine/"):
        raise click.UsageError(f"--segment: expected the name of a file in the journal, found {segment!r}.")
    frames = salvage(files, segment) if segment else scan(files, first=_first(files, first))
    for frame in frames:
        sys.stdout.buffer.write(msgspec.json.encode(_frame(frame)) + b"\n")
    return 0


def _first(files: OsFiles, first: int) -> int:
    """Older segments may be gone because a snapshot covers them: then begin behind it."""
    numbers = [one.first for one in verify(files).files if one.kind == "segment" and one.first]
    return max(first, min(numbers, default=1))


def _frame(frame: Frame) -> dict[str, Any]:
    return {"number": frame.number, "facts": list(_facts(frame.payload))}


def _facts(payload: bytes) -> Iterator[dict[str, Any]]:
    from holdfast.job.facts import decode_facts

    for fact in decode_facts(payload):
        fields = {name: _readable(getattr(fact, name)) for name in fact.__struct_fields__}
        yield {"fact": type(fact).__name__, **fields}


def _readable(value: Any) -> Any:
    """Return a value with encoded JSON shown as JSON, and structs by name."""
    if isinstance(value, bytes):
        return json_of(value)
    if isinstance(value, msgspec.Struct):
        return {
            name: _readable(item)
            for name in value.__struct_fields__
            if (item := getattr(value, name)) not in (None, b"", "", (), 0)
        }
    if isinstance(value, tuple | list):
        return [_readable(item) for item in value]
    return value


@command.command("repair")
@click.option("--accept-loss", is_flag=True, help="Go on without the frames that are damaged.")
@shared()
def repair_journal(session: Session, accept_loss: bool) -> int:
    """Make a damaged journal open again; the node must be stopped. Every file is kept in quarantine as it was."""
    try:
        done = repair(OsFiles(_folder(session)), accept_loss=accept_loss)
    except LossRefused as error:
        raise Refused(error) from error
    if session.out.as_json:
        session.out.value(done)
        return 0
    for line in done.done:
        session.out.line(line)
    for first, last in done.lost:
        session.out.line(f"lost: numbers {first} to {last}")
    session.out.line(
        f"repaired; the files as they were: {done.backup}" if done.backup else "nothing to repair: the journal opens."
    )
    return 0


class Refused(LogDamaged):
    """A repair would lose frames and was not told to accept that."""

    def __init__(self, cause: LossRefused) -> None:
        super().__init__(cause.cause.file, cause.cause.offset, cause.cause.problem)
        self.args = (f"{cause} To go on without them: holdfast journal repair --accept-loss.",)


@command.command("backup")
@click.argument("target", type=click.Path(path_type=Path))
@shared()
def backup_journal(session: Session, target: Path) -> int:
    """Copy the journal, also of a running node, into the empty folder TARGET."""
    done = backup(OsFiles(_folder(session)), OsFiles(target))
    if session.out.as_json:
        session.out.value(done)
    session.out.line(
        f"backed up {len(done.names)} files, {done.size:,} bytes, up to number {done.last:,}, into {target}."
    )
    return 0


@command.command("restore")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@shared()
def restore_journal(session: Session, source: Path) -> int:
    """Make the data folder, which must be empty, a store of its own from the backup SOURCE. Old tokens are dead in it."""
    data = session.data
    if data is None:
        raise ConfigError(f"expected a journal, found the store {session.url!r}. Name its folder with --data.")
    done = restore(OsFiles(source), OsFiles(data))
    if session.out.as_json:
        session.out.value(done)
    session.out.line(f"restored {len(done.names)} files up to number {done.last:,} into {data}.")
    return 0
