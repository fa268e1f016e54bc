"""`holdfast doctor`: look for what is wrong or may go wrong."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click
import msgspec

from holdfast.cli.commands.status import info_of
from holdfast.cli.exits import Exit
from holdfast.cli.output import when
from holdfast.cli.session import Session, shared
from holdfast.errors import HoldfastError
from holdfast.hub.parts import NodeInfo
from holdfast.job.commands import DefinitionFilter
from holdfast.masking import without_secrets
from holdfast.wal import OsFiles, read_holder, verify
from holdfast.wal.layout import snapshot_name
from holdfast.wire.place import find_node

_ROOM_MIN: Final = 512 * 1024 * 1024
_SYNCS: Final = 20
_SLOW: Final = 0.020
#: How lists mark what could not be read in a database.
_DAMAGED: Final = "DamagedRow"
#: How far a history elsewhere may be behind, in seconds.
_EXPORT_LATE: Final = 300.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One look. `state`: ok, warn or fail. `advice`: what to do about it."""

    name: str
    state: str
    found: str
    advice: str = ""


@click.command("doctor")
@click.option("--router", metavar="URL", envvar="HOLDFAST_ROUTER", help="Look at the router of sticky services, too.")
@shared()
def command(session: Session, router: str | None) -> int:
    """Look for what is wrong or may go wrong with settings, data folder, disk and node. Exit code 12 when something is."""
    checks = [*_all(session), *([_router(session, router)] if router else [])]
    if session.out.as_json:
        session.out.value(checks)
    else:
        session.out.table(
            ["check", "state", "found", "what to do"], [(one.name, one.state, one.found, one.advice) for one in checks]
        )
    return Exit.UNHEALTHY if any(one.state == "fail" for one in checks) else Exit.OK


def _router(session: Session, url: str) -> Check:
    from holdfast.cli.commands.sticky import eviction_fault
    from holdfast.connect import make_router

    async def look() -> str:
        executor = make_router(url, clock=session.clock)
        try:
            await executor.open()
            return await eviction_fault(executor)
        finally:
            await executor.close()

    try:
        fault = session.run(look())
    except HoldfastError as error:
        return Check(name="router", state="fail", found=str(error), advice="start Redis, or correct the URL")
    if fault:
        return Check(name="router", state="warn", found=fault, advice="CONFIG SET maxmemory-policy noeviction")
    return Check(name="router", state="ok", found="answers, and drops nothing when memory is short")


def _all(session: Session) -> Iterator[Check]:
    yield Check(name="python", state="ok", found=sys.version.split()[0])
    missing = [name for name in ("litestar", "uvicorn", "prometheus_client", "ruamel.yaml") if not _installed(name)]
    yield Check(
        name="packages",
        state="fail" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else "all of holdfast[node]",
        advice="pip install 'holdfast[node]'" if missing else "",
    )
    try:
        data = session.data
    except HoldfastError as error:
        yield Check(name="settings", state="fail", found=str(error), advice="mend them; holdfast config shows all")
        return
    yield Check(name="settings", state="ok", found=f"store {without_secrets(session.url)}")
    if data is None:
        yield _attempt("store", lambda: _store(session))
        yield from _export(session, session.settings.data)
        return
    yield _folder(data)
    if data.is_dir():
        yield _room(data)
        yield _attempt("disk", lambda: _syncs(data))
        yield _attempt("journal", lambda: _journal(data))
        yield _attempt("node", lambda: _node(session, data))
        yield from _export(session, data)


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    """Return what a look finds; what it raises is a finding too."""
    try:
        return look()
    except (HoldfastError, OSError) as error:
        return Check(name=name, state="fail", found=str(error))


def _store(session: Session) -> Check:
    async def ask() -> Check:
        async with session.store() as store:
            stats = await store.stats()
            damaged = [f"queue {one.name}" for one in await store.queues() if one.paused_by == _DAMAGED]
            damaged += [
                f"{kind} {name}"
                for kind, name, description in (
                    *(("task", one.alias, one.description) for one in await store.definitions(DefinitionFilter())),
                    *(("schedule", one.name, one.description) for one in await store.schedules()),
                )
                if description.startswith(f"{_DAMAGED}: ")
            ]
            if damaged:
                found = f"rows that are not as Holdfast writes them: {', '.join(damaged)}"
                advice = "look at who writes there; save them anew. Their lists say what stood there"
                return Check(name="store", state="warn", found=found, advice=advice)
            return Check(name="store", state="ok", found=f"answers; {len(stats.queues)} queues")

    return session.run(ask())


def _folder(data: Path) -> Check:
    if not data.exists():
        return Check(name="folder", state="warn", found=f"{data} is not there", advice="holdfast run makes it")
    mode = data.stat()
    if mode.st_uid != os.geteuid():
        advice = "run as its owner, or choose another folder with --data"
        return Check(name="folder", state="fail", found=f"{data} belongs to user {mode.st_uid}", advice=advice)
    if stat.S_IMODE(mode.st_mode) & 0o077:
        found = f"{data} is open to others ({stat.S_IMODE(mode.st_mode):04o})"
        return Check(name="folder", state="warn", found=found, advice=f"chmod 700 {data}")
    return Check(name="folder", state="ok", found=f"{data}, for its owner alone")


def _room(data: Path) -> Check:
    free = shutil.disk_usage(data).free
    state = "ok" if free >= _ROOM_MIN else "warn"
    advice = "" if state == "ok" else "free some space: a full disk stops new jobs"
    return Check(name="room", state=state, found=f"{free / 2**30:.1f} GiB free", advice=advice)


def _syncs(data: Path) -> Check:
    """How long the disk takes to make a small write durable: the floor of every single enqueue."""
    times = []
    with tempfile.TemporaryFile(dir=data) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    middle = sorted(times)[_SYNCS // 2]
    state = "ok" if middle < _SLOW else "warn"
    advice = "" if state == "ok" else "single enqueues wait for this; batches and concurrent ones share it"
    return Check(
        name="disk", state=state, found=f"a sync takes {middle * 1_000:.2f} ms (median of {_SYNCS})", advice=advice
    )


def _journal(data: Path) -> Check:
    if not (data / "FORMAT").exists():
        return Check(name="journal", state="ok", found="none yet")
    report = verify(OsFiles(data))
    if report.damage is not None:
        advice = "put the file back from a copy, or see holdfast journal repair"
        return Check(name="journal", state="fail", found=str(report.damage), advice=advice)
    bad = [one for one in report.files if one.bad_at >= 0]
    if bad:
        found = "; ".join(f"{one.name} at byte {one.bad_at}: {one.problem}" for one in bad)
        return Check(name="journal", state="warn", found=found, advice="it opens; holdfast journal verify tells more")
    return Check(
        name="journal", state="ok", found=f"opens; {report.last:,} numbers, {_snapshot(data, report.snapshot)}"
    )


def _snapshot(data: Path, number: int) -> str:
    if not number:
        return "no snapshot yet"
    try:
        made = (data / snapshot_name(number)).stat().st_mtime
    except FileNotFoundError:  # a newer one took its place meanwhile
        return f"snapshot at {number:,}"
    return f"snapshot at {number:,} of {when(made)} UTC"


def _node(session: Session, data: Path) -> Check:
    if find_node(data) is None:
        holder = read_holder(OsFiles(data))
        found = (
            f"none answers (the folder was last held by process {holder.pid} on {holder.host})"
            if holder.pid
            else "none"
        )
        return Check(name="node", state="warn", found=found, advice="holdfast run module:app")

    async def ask() -> Check:
        async with session.node() as store:
            info = await info_of(store)
        if info is None:
            return Check(name="node", state="warn", found="it tells nothing of itself")
        state = "fail" if info.problem else "ok"
        return Check(
            name="node", state=state, found=info.problem or f"{info.state}, pid {info.pid}, version {info.version}"
        )

    return session.run(ask())


def _export(session: Session, data: Path) -> Iterator[Check]:
    """How the history elsewhere is fed, by the node or hub that answers in the data folder; nothing where there is none."""
    place = find_node(data)
    if place is None:
        return

    async def ask() -> NodeInfo | None:
        from holdfast.connect import make_store

        store = make_store(f"unix:{place}", clock=session.clock)
        await store.open()
        try:
            return await info_of(store)
        finally:
            await store.close()

    try:
        info = session.run(ask())
    except HoldfastError as error:
        yield Check(name="history", state="warn", found=str(error), advice="see the node")
        return
    if info is None or info.export is None:
        return
    found = info.export.words
    if info.export.problem:
        yield Check(
            name="history", state="fail", found=found, advice="mend the history store: nothing is lost meanwhile"
        )
    elif info.export.dropped or info.export.lag > _EXPORT_LATE:
        yield Check(name="history", state="warn", found=found, advice="it can not keep up: give it more room")
    else:
        yield Check(name="history", state="ok", found=found)
