"""A private MariaDB: its own folder, socket and port; an ordinary user; killed for real.

The folder is filled by `mariadbd --bootstrap` from the package's own SQL texts, so that the server alone (Debian:
mariadb-server-core) is enough. One server serves a whole run of pytest (`shared`); tests that kill it make their own.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, unquote, urlsplit

import pymysql
import pytest

#: The URL of a server to be used instead of one of our own.
VARIABLE: Final = "HOLDFAST_TEST_MYSQL_URL"
_SHARE: Final = Path("/usr/share/mysql")
#: What the server keeps of itself. The help texts and the sys schema are left out: nobody here asks for them.
_SYSTEM: Final = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
#: Seconds for a start on a busy machine.
_PATIENCE: Final = 90.0
_QUICK: Final = ("--innodb-flush-log-at-trx-commit=0",)
_SAFE: Final = ("--innodb-flush-log-at-trx-commit=1",)


def binary() -> str | None:
    """Return the path of the server, or None."""
    return shutil.which("mariadbd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def need() -> None:
    """Skip the test where MariaDB is not installed; fail it in CI."""
    if binary() is None:
        reason = "MariaDB is not installed (Debian: mariadb-server-core)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: in CI that is a failure.")
        pytest.skip(reason)


class MariaDB:
    """One server in a temporary folder.

    durable: each commit is synced, as on a machine that may lose power. Clients log in as root without a password, on
    the socket or on 127.0.0.1.
    """

    def __init__(self, *, durable: bool = False, options: tuple[str, ...] = ()) -> None:
        """Make the folder; `start` makes the server."""
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-mariadb-"))
        self.socket = self.folder / "sock"
        self.port = 0
        self._options = (*(_SAFE if durable else _QUICK), *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._names = itertools.count(1)

    def start(self) -> MariaDB:
        """Start the server and return when it answers. The port stays the same over restarts.

        It dies with the thread that calls this, so that a killed test leaves none behind: call it from one that stays.
        """
        if not (self.folder / "data").exists():
            self._bootstrap()
        self.port = self.port or _free_port()
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            self._command("--port", str(self.port), "--socket", str(self.socket), *self._options),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
        )
        self._wait_until_it_answers()
        return self

    def kill(self) -> None:
        """Kill the server as the machine would: no time to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut the server down in order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the server in its tracks; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_name(self) -> str:
        """Return the name of a database that is not there yet."""
        return f"t{next(self._names)}"

    def url(self, database: str, user: str = "root", password: str = "") -> str:
        """Return the URL of a database, over TCP."""
        login = f"{user}:{password}" if password else user
        return f"mysql://{login}@127.0.0.1:{self.port}/{database}"

    def login(self) -> dict[str, Any]:
        """How a driver connects to it, as its keywords."""
        return {"unix_socket": str(self.socket), "user": "root"}

    @property
    def upstream(self) -> str | tuple[str, int]:
        """Where a proxy finds it."""
        return str(self.socket)

    @property
    def log(self) -> str:
        """What the server has written about itself."""
        return (self.folder / "log").read_text(errors="replace")

    # --- how

    def _command(self, *more: str) -> list[str]:
        found = binary()
        assert found is not None, "need() skips the test where MariaDB is missing"
        return [
            *_as_ordinary_user(),
            found,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",
            f"--pid-file={self.folder / 'pid'}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=128M",
            "--innodb-log-file-size=64M",
            "--character-set-server=utf8mb4",
            "--max-connections=200",
            *more,
        ]

    def _bootstrap(self) -> None:
        (self.folder / "data").mkdir()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (self.folder, self.folder / "data"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        texts = [(_SHARE / name).read_text(encoding="utf-8", errors="replace") for name in _SYSTEM]
        script = "\n".join(["create database mysql;", "use mysql;", "set @auth_root_socket=NULL;", *texts])
        # The name of this machine is nobody's business, and may be one that the server can not look up.
        lines = "\n".join(line for line in script.splitlines() if "@current_hostname" not in line)
        done = subprocess.run(
            self._command("--bootstrap", "--max-allowed-packet=8M"),
            input=lines.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            check=False,
            timeout=_PATIENCE,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"the server ended at its start:\n{self.log[-4_000:]}"
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_PATIENCE)
                try:
                    client.connect(str(self.socket))
                    if client.recv(64):  # its greeting
                        return
                except OSError:
                    time.sleep(0.02)
        raise AssertionError(f"the server did not answer within {_PATIENCE:.0f} s:\n{self.log[-4_000:]}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if number is signal.SIGTERM:
                self._process.send_signal(signal.SIGCONT)
            self._process.wait(_PATIENCE)
            self._process = None
            self.socket.unlink(missing_ok=True)
        if self._log is not None:
            self._log.close()
            self._log = None


class GivenMysql(MariaDB):
    """A server that somebody else runs, named in the environment: MySQL 8, or another MariaDB. Its account may make databases
    and users. Tests that kill a server start their own all the same."""

    def __init__(self, url: str) -> None:
        """`url` as of a store; its database is not used."""
        parts = urlsplit(url)
        self._host, self.port = parts.hostname or "127.0.0.1", parts.port or 3306
        self._user, self._password = unquote(parts.username or "root"), unquote(parts.password or "")
        self._names = itertools.count(1)
        self._made: list[str] = []

    def start(self) -> MariaDB:
        """It runs."""
        return self

    def new_name(self) -> str:
        """Return the name of a database that is not there yet; it is dropped at the end."""
        self._made.append(f"holdfast_test_{os.getpid()}_{next(self._names)}")
        return self._made[-1]

    def url(self, database: str, user: str = "", password: str = "") -> str:
        """Return the URL of a database."""
        user, password = (user, password) if user else (self._user, self._password)
        login = f"{quote(user)}:{quote(password, safe='')}" if password else quote(user)
        return f"mysql://{login}@{self._host}:{self.port}/{database}"

    def login(self) -> dict[str, Any]:
        """How a driver connects to it, as its keywords."""
        return {"host": self._host, "port": self.port, "user": self._user, "password": self._password}

    @property
    def upstream(self) -> tuple[str, int]:
        """Where a proxy finds it."""
        return self._host, self.port

    def remove(self) -> None:
        """Drop what was made on it."""
        with pymysql.connect(**self.login(), autocommit=True) as connection, connection.cursor() as cursor:
            for name in self._made:
                cursor.execute(f"DROP DATABASE IF EXISTS {name}")


@functools.cache
def shared() -> MariaDB:
    """The server of this process of pytest: started when first asked for, killed when the process ends; or the one given."""
    given = os.environ.get(VARIABLE)
    if not given:
        need()
    server = GivenMysql(given) if given else MariaDB()
    atexit.register(server.remove)
    return server.start()


def _as_ordinary_user() -> list[str]:
    """What makes a program of root's one of nobody's; the server refuses root. It dies with the process that started it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    user = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    return [setpriv, *user, "--pdeathsig=KILL"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
