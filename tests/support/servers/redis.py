"""A private Redis: its own folder, on a socket in it (and a free port when asked); killed, frozen and restarted for real."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Final, Self

import pytest

#: Seconds for a start on a busy machine.
_PATIENCE: Final = 60.0
#: How often a port may turn out to be taken between choosing and binding it.
_TRIES: Final = 5


def binary() -> str | None:
    """Return the path of the server, or None. HOLDFAST_TEST_REDIS_SERVER names another one, of Valkey or another Redis."""
    return os.environ.get("HOLDFAST_TEST_REDIS_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")


def need() -> None:
    """Skip the test where Redis is not installed; fail it in CI."""
    if binary() is None:
        reason = "Redis is not installed (Debian: redis-server)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: in CI that is a failure.")
        pytest.skip(reason)


class RedisServer:
    """One server in a temporary folder. durable: every write is synced to a log, and a restart finds it again.

    tcp: also on 127.0.0.1, on a free port. Use it in `with`.
    """

    def __init__(self, *options: str, durable: bool = False, tcp: bool = False) -> None:
        """Make the folder; `start` makes the server."""
        self.folder = Path(tempfile.mkdtemp(prefix="hf-redis-"))
        self.port = 0
        self._tcp = tcp
        self._options = ("--appendonly", "yes" if durable else "no", "--appendfsync", "always", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        """Kill it, and remove its folder."""
        self.remove()

    @property
    def url(self) -> str:
        """Where it is found: by its socket, or by its port if it has one."""
        return f"redis://127.0.0.1:{self.port}/0" if self._tcp else f"unix://{self.folder / 'sock'}"

    def start(self) -> Self:
        """Start the server and return when it answers. Socket and port stay the same over restarts."""
        for _ in range(1 if self.port else _TRIES):
            if self._tcp and not self.port:
                self.port = free_port()
            self._launch()
            if self._answers():
                return self
            self._end(signal.SIGKILL)
            self.port = 0
        raise AssertionError(f"Redis did not start: {(self.folder / 'log').read_text(errors='replace')[-2_000:]}")

    def _launch(self) -> None:
        found = binary()
        assert found is not None, "need() skips the test where Redis is missing"
        self._log = (self.folder / "log").open("ab")
        command = [found, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.folder / "sock")]
        quiet = ["--dir", str(self.folder), "--save", "", "--daemonize", "no", "--protected-mode", "no"]
        self._process = subprocess.Popen(
            [*command, *quiet, *self._options], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )

    def _answers(self) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self._process is not None, "it was launched"
            if self._process.poll() is not None:
                return False
            try:
                if self.ask("PING") == "+PONG":
                    return True
            except OSError:
                pass  # not yet: looked at again below
            time.sleep(0.01)
        return False

    def ask(self, *words: str) -> str:
        """Send one command over a connection of its own; return the first line of the answer."""
        return self.ask_all(*words).split("\r\n")[0]

    def ask_all(self, *words: str) -> str:
        """The same with the whole answer, which must be short."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_PATIENCE)
            line.connect(str(self.folder / "sock"))
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            line.sendall(f"*{len(words)}\r\n{parts}".encode())
            return line.recv(65_536).decode()

    def kill(self) -> None:
        """Kill the server as the machine would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again at the same place."""
        self.kill()
        self.start()

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

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        self._signal(signal.SIGCONT)
        if self._process is not None:
            self._process.wait(_PATIENCE)
        if self._log is not None:
            self._log.close()
        self._process = self._log = None


def free_port() -> int:
    """Return a port that is free now; somebody may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisCluster:
    """Three servers that are one Redis Cluster. Use it in `with`; `url` names the first."""

    def __init__(self) -> None:
        """Make the servers; entering starts them."""
        self.servers = [
            RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port()), tcp=True) for _ in range(3)
        ]

    def __enter__(self) -> Self:
        """Start the servers, share the slots out, wait until all agree."""
        try:
            for server in self.servers:
                server.start()
            self._join()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill them all."""
        self._remove()

    @property
    def url(self) -> str:
        """Where it is found."""
        return self.servers[0].url.replace("redis://", "redis+cluster://").removesuffix("/0")

    def flush(self) -> None:
        """Forget all data."""
        for server in self.servers:
            server.ask("FLUSHALL")

    def _join(self) -> None:
        bounds = (0, 5_461, 10_923, 16_384)
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            assert server.ask("CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1)) == "+OK"
            if server is not first:
                bus = server._options[server._options.index("--cluster-port") + 1]
                assert first.ask("CLUSTER", "MEET", "127.0.0.1", str(server.port), bus) == "+OK"
        deadline = time.monotonic() + _PATIENCE
        while not all(self._knows_all(server) for server in self.servers):
            assert time.monotonic() < deadline, "the cluster did not come together"
            time.sleep(0.05)

    def _knows_all(self, server: RedisServer) -> bool:
        told = server.ask_all("CLUSTER", "INFO")
        return "cluster_state:ok" in told and "cluster_known_nodes:3" in told

    def _remove(self) -> None:
        for server in self.servers:
            server.remove()
