"""A private PostgreSQL server on a unix socket in a temporary folder.

Nothing listens on a port, so none can be taken; tests that need TCP put a proxy of ours in front (tests.support.proxy).
The server refuses to run as root, so as root it runs as an unprivileged account, and the folder is that account's. It
ends with the thread that started it, also when that thread's process is killed.

    with running() as server:
        url = server.create_database("one")
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

#: Another folder of PostgreSQL's programs than the newest of Debian's.
#: The URL of a server to be used instead of one of our own.
VARIABLE = "HOLDFAST_TEST_POSTGRESQL_URL"
BIN_VARIABLE = "HOLDFAST_TEST_POSTGRESQL_BIN"
_START_SECONDS = 60.0
_ACCOUNTS = ("postgres", "nobody")


class NoServer(RuntimeError):
    """PostgreSQL is not installed, or does not start."""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None when there are none."""
    given = os.environ.get(BIN_VARIABLE)
    folders = [Path(given)] if given else sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0


class PostgresServer:
    """One server. `durable` leaves fsync and synchronous_commit on, for tests that kill it and for benchmarks."""

    def __init__(self, folder: Path, *, durable: bool = True, settings: Mapping[str, str] | None = None) -> None:
        found = programs()
        if found is None:
            raise NoServer("PostgreSQL is not installed: run scripts/servers, or apt-get install postgresql")
        self._bin, self.folder, self.data = found, folder, folder / "data"
        self._settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "max_connections": "200",
            "logging_collector": "off",
            "log_min_messages": "warning",
            **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    # --- life ------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the cluster. Local users are trusted, as `postgres`."""
        give_to_account(self.folder)
        command = [self._bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(
            [*as_account(), *map(str, command), "--no-sync"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NoServer(f"initdb failed: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it, and return when it answers. It ends with the thread that calls this."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*as_account(), str(self._bin / "postgres"), "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._await_answers()

    def _await_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        ask = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder), "-U", "postgres", "-d", "postgres"]
        while subprocess.run(ask, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NoServer(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2_000:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT closes connections and writes a checkpoint, SIGQUIT is an immediate shutdown."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_START_SECONDS)

    def kill(self) -> None:
        """SIGKILL the server, as the machine's out-of-memory killer does; its connections' processes follow it."""
        self.stop(signal.SIGKILL)
        # A process that still serves a connection holds the shared memory; a start would refuse it.
        deadline = time.monotonic() + _START_SECONDS
        while _in_session_of(self.data) and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process id of the server while it runs."""
        assert self._process is not None
        return self._process.pid

    # --- use -------------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    @property
    def upstream(self) -> str | tuple[str, int]:
        """Where a proxy finds it: the path of the server's socket."""
        return str(self.folder / ".s.PGSQL.5432")

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements by psql, and return what it prints: fields separated by |, rows by line ends."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", "postgres"]
        done = subprocess.run(
            [str(self._bin / "psql"), *options, "-d", database, "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.strip()

    def create_database(self, name: str = "", *, template: str = "template1") -> str:
        """Make a database, and return its URL. The name is a new one unless given."""
        name = name or f"test_{os.getpid()}_{next(self._names)}"
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)


class GivenPostgres(PostgresServer):
    """A server that somebody else runs, named in the environment. Its account may make databases and roles. Tests that kill a
    server, or read its log, start their own all the same."""

    def __init__(self, url: str) -> None:
        """`url` as of a store; databases are made beside the one that it names."""
        self._url = urlsplit(url)
        self._names = itertools.count(1)
        self._made: list[str] = []

    def url(self, database: str = "postgres", user: str = "") -> str:
        """Return the URL of a database."""
        netloc = self._url.netloc
        if user:
            netloc = f"{user}@{netloc.rpartition('@')[2]}"
        query = self._url.query or "sslmode=prefer"  # never none: tests append to it
        return urlunsplit(self._url._replace(path=f"/{database}", netloc=netloc, query=query))

    @property
    def upstream(self) -> tuple[str, int]:
        """Where a proxy finds it."""
        return self._url.hostname or "127.0.0.1", self._url.port or 5432

    def sql(self, text: str, database: str = "") -> str:
        """Run statements, and return the rows of the last: fields separated by |, rows by line ends."""
        place = self.url(database) if database else urlunsplit(self._url)
        with psycopg.connect(place, autocommit=True, prepare_threshold=None) as connection:
            cursor = connection.execute(text.encode())
            while cursor.nextset():
                pass
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join(map(str, row)) for row in rows)

    def create_database(self, name: str = "", *, template: str = "template1") -> str:
        """Make a database, and return its URL; it is dropped at the end."""
        name = name or f"test_{next(self._names)}"
        name = f"holdfast_{os.getpid()}_{name}"
        template = template if template == "template1" else f"holdfast_{os.getpid()}_{template}"
        self._made.append(name)
        return super().create_database(name, template=template)

    def remove(self) -> None:
        """Drop what was made on it."""
        for name in self._made:
            self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.contextmanager
def running(*, durable: bool = True, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Give a running server with an empty cluster; stop it and remove its folder at the end."""
    # Not in a folder of pytest's: those are closed to other accounts, and too deep for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    try:
        server = PostgresServer(folder, durable=durable, settings=settings)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- as an unprivileged account ------------------------------------------------------------------------------------


def _account() -> pwd.struct_passwd | None:
    """Return whom the server runs as, when we are root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServer(f"PostgreSQL does not run as root: expected one of the accounts {', '.join(_ACCOUNTS)}, found none")


def give_to_account(folder: Path) -> None:
    """Let the account that servers run as own a folder."""
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)


def as_account() -> list[str]:
    """Return the command that becomes the account, and dies with us where the system can do that."""
    setpriv, account = shutil.which("setpriv"), _account()
    if setpriv is None:
        if account is not None:
            raise NoServer("PostgreSQL does not run as root: expected the program setpriv (util-linux), found none")
        return []
    become = [] if account is None else [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [setpriv, *become, "--pdeathsig=QUIT", "--"]


def _in_session_of(data: Path) -> list[int]:
    """Return the processes that still have `data` as their folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == data:
                found.append(int(process.name))
    return found
