"""What every command shares: its options, the settings, the way to the store."""

from __future__ import annotations

import asyncio
import functools
import getpass
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from holdfast.cli.output import Output
from holdfast.clock import SystemClock
from holdfast.config import Resolved, Settings, resolve
from holdfast.errors import ConfigError, NodeNotRunning, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from holdfast.connect import OfflineStore
    from holdfast.store import Store

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT_FILE: Final = "holdfast.yaml"
#: Options of every command that are settings.
_SHARED: Final = ("data", "url")


class Session:
    """One call of the command line."""

    def __init__(
        self, flags: dict[str, Any], *, config: str | None, as_json: bool, offline: bool = False, debug: bool = False
    ) -> None:
        self._flags, self._config, self.offline, self.debug = flags, config, offline, debug
        self.out = Output(as_json=as_json)
        self.clock = SystemClock()

    def flag(self, **values: Any) -> None:
        """Add flags of one command that are settings; None means not given. Before the settings are first asked for."""
        self._flags.update(values)

    @functools.cached_property
    def resolved(self) -> Resolved:
        """The settings with their origins. Raises ConfigError that lists every fault."""
        return resolve(self._flags, os.environ, _file(self._config))

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.resolved.settings

    @property
    def who(self) -> str:
        """Who acts, for the records of the store."""
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return "command line"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the body of a command in a loop."""
        return asyncio.run(work)

    def confirm(self, what: str) -> None:
        """Ask whether to do `what`; refuse it where nobody can be asked. Raises click.UsageError, click.Abort."""
        if not self.out.is_terminal or self.out.as_json:
            raise click.UsageError(f"{what}: expected --yes when nobody can be asked.")
        click.confirm(f"{what}?", abort=True)

    # --- the store

    @property
    def url(self) -> str:
        """The URL of the store: the one that was set, or the journal in the data folder."""
        if self._flags.get("url") == "":
            raise ConfigError("--url: expected a store URL, found nothing. Is the variable set that it comes from?")
        return self.settings.url or f"journal:{self.settings.data}"

    @property
    def data(self) -> Path | None:
        """The folder of the journal; None when the store is no journal."""
        scheme, _, rest = self.url.partition(":")
        return Path(rest) if scheme == "journal" else None

    @asynccontextmanager
    async def store(self, *, make: bool = False) -> AsyncIterator[Store]:
        """The store: of the node that runs on the data folder; without one the journal itself, opened for the moment.

        A journal that does not exist yet is made only when told so (`make`). With --offline: what its files say.
        """
        from holdfast.connect import make_store

        if self.offline:
            async with self.files() as offline:
                yield offline
            return
        data = self.data
        if data is not None and not make and not (data / "FORMAT").exists():
            raise NodeNotRunning(str(data))
        store = make_store(self.url, clock=self.clock, **self.store_options)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def note(self, store: Store, action: str, subject: str, count: int = 1, detail: str = "") -> None:
        """Write what was done into the audit log of a store that this process opened itself; a node or hub writes its own."""
        from holdfast.audit import AuditEntry
        from holdfast.connect import make_audit

        audit = None if hasattr(store, "ask") else make_audit(store)
        if audit is not None:
            await audit.record(AuditEntry(who=self.who, action=action, subject=subject, count=count, detail=detail))

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Store]:
        """The store of a node that runs, and nothing else. Raises NodeNotRunning."""
        from holdfast.connect import make_store

        options = {"role": "client"} if self.data is not None else self.store_options
        store = make_store(self.url, clock=self.clock, **options)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def files(self) -> AsyncIterator[OfflineStore]:
        """The last state that the files of the journal tell."""
        from holdfast.connect import make_offline

        data = self.data
        if data is None:
            raise ConfigError(f"--offline: expected a journal, found {self.url!r}. Leave it out.")
        if not (data / "FORMAT").exists():
            raise ConfigError(
                f"{data}: expected the folder of a journal, found {'no journal in it' if data.is_dir() else 'none'}. "
                "Name it with --data; `holdfast run` makes a new one."
            )
        store = make_offline(str(data), clock=self.clock)
        await store.open()
        yield store
        await store.close()

    @property
    def store_options(self) -> dict[str, str]:
        """What the store is opened with, beside its URL."""
        token = self.settings.api_token
        return {"token": token} if token and self.url.startswith(("http:", "https:")) else {}


def _file(named: str | None) -> Path | None:
    """Return the configuration file: the one that was named, which must be there, or the usual one if it is."""
    origin = "flag --config" if named else "variable HOLDFAST_CONFIG"
    named = named or os.environ.get("HOLDFAST_CONFIG")
    if not named:
        usual = Path(DEFAULT_FILE)
        return usual if usual.is_file() else None
    path = Path(named).expanduser()
    if not path.is_file():
        raise ConfigError(f"{origin}: expected a file, found none at {path}. Correct the path, or leave it out.")
    return path


def shared(*, offline: bool = False) -> Callable[[F], F]:
    """Give a command the options that all have, and its Session as first argument."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped(**options: Any) -> Any:
            flags = {name: options.pop(name) for name in _SHARED}
            session = Session(
                flags,
                config=options.pop("config"),
                as_json=options.pop("as_json"),
                offline=options.pop("offline", False),
                debug=options.pop("debug"),
            )
            try:
                return function(session, **options)
            except StoreError as error:
                _name_folder(error, session)
                raise

        decorated: Any = wrapped
        for option in reversed(_options(offline=offline)):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]  # click's decorators keep the function

    return decorate


def _name_folder(error: StoreError, session: Session) -> None:
    """The log speaks of its files by their names; who reads it here wants to know where they are."""
    from holdfast.wal.errors import LogDamaged, NewerFormat  # late: most commands need nothing of the log

    if isinstance(error, LogDamaged | NewerFormat) and session.data is not None:
        error.args = (f"{session.data}/{error}",)


def _options(*, offline: bool) -> list[Callable[[Any], Any]]:
    options = [
        click.option("--data", metavar="DIR", help="Data folder of the node (default ./data)."),
        click.option("--url", metavar="URL", help="Another store: http://hub:7420, postgresql://…"),
        click.option("--config", metavar="FILE", help="Configuration file (default holdfast.yaml, if there is one)."),
        click.option("--json", "as_json", is_flag=True, help="Answer as JSON."),
        click.option("--debug", is_flag=True, help="Show tracebacks."),
    ]
    if offline:
        text = "Read the files of the journal instead of asking the node; says how old they are."
        options.append(click.option("--offline", is_flag=True, help=text))
    return options
