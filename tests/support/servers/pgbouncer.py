"""A private PgBouncer in transaction mode, in front of a test server: what cloud databases put before theirs.

A client keeps a server's connection for one transaction; the next may go to another. So whatever a client leaves in a session
(prepared statements, LISTEN, settings) is gone, or is found by somebody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers.postgres import PostgresServer, as_account, give_to_account

_START_SECONDS = 60.0
_SETTINGS = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
logfile = {folder}/log
pidfile = {folder}/pid
"""


def program() -> str | None:
    """Return the path of the program, or None."""
    return shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


def need() -> None:
    """Skip the test where PgBouncer is not installed; fail it in CI."""
    if program() is None:
        reason = "PgBouncer is not installed: run scripts/servers"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def pooling(server: PostgresServer, *, size: int = 4) -> Iterator[int]:
    """Put a pooler with `size` connections a database in front of a server; give its port on the loopback."""
    found = program()
    assert found is not None, "need() skips the test where PgBouncer is missing"
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pgbouncer-"))
    give_to_account(folder)
    port = _free_port()
    settings = folder / "ini"
    settings.write_text(_SETTINGS.format(server=server.folder, port=port, size=size, folder=folder))
    settings.chmod(0o644)
    process = subprocess.Popen(
        [*as_account(), found, "-q", str(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        _await_answers(process, port, folder / "log")
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(_START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _await_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise AssertionError(f"PgBouncer did not start: {log.read_text() if log.exists() else 'it wrote no log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
