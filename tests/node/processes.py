"""Real nodes in real processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[2]
SHOP: Final = "tests.node.shop:app"
#: How long anything may take before a test gives up, in seconds. Nothing waits so long unless it is broken.
LIMIT: Final = 60.0


def eventually(look: Callable[[], T], what: str = "what was expected") -> T:
    """Return what `look` returns as soon as it is true; fail after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come within {LIMIT:g} s")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process: ours without settings of Holdfast and words of Kubernetes, with `variables`."""
    foreign = ("HOLDFAST_", "KUBERNETES_")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**ours, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **variables}


def holdfast(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own."""
    command = [sys.executable, "-m", "holdfast", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


class NodeProcess:
    """A node in a process of its own; ready when the constructor returns."""

    def __init__(self, data: Path, *arguments: object, app: str | None = SHOP, **variables: str) -> None:
        self.data = data
        data.parent.mkdir(parents=True, exist_ok=True)
        self._log = (data.parent / f"{data.name}.log").open("a+")
        given = [*([app] if app else []), "--data", data, "--json", *map(str, arguments)]
        if "--port" not in given and "--no-http" not in given:
            given += ["--port", "0"]
        if "--metrics-port" not in given:
            given += ["--metrics-port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "run", *map(str, given)],
            cwd=ROOT,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the node ended with {self.process.wait()}: {self.log()}"
        self.info: dict[str, Any] = json.loads(line)

    def log(self) -> str:
        """What it has logged so far."""
        self._log.seek(0)
        return self._log.read()

    @property
    def token(self) -> str:
        """The token of this start."""
        return (self.data / "token").read_text().strip()

    # --- asking

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        over: str = "socket",
    ) -> tuple[int, Any]:
        """Send a request over the "socket" or "tcp"; return status and decoded body."""
        connection: http.client.HTTPConnection
        if over == "socket":
            connection = UnixConnection(self.data / "node.sock")
        else:
            host, _, port = self.info["url"].removeprefix("http://").rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT)
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            # Not for `eventually`: a node that is gone does not come back.
            raise AssertionError(f"{error!r}; the node (exit code {self.process.poll()}) says: {self.log()}") from error
        finally:
            connection.close()
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, json.loads(text) if is_json else text.decode()

    def enqueue(self, task: str, **payload: object) -> str:
        """Enqueue a job over the socket; return its id."""
        status, answer = self.ask("POST", "/api/v1/jobs", {"task": task, "payload": payload})
        assert status == 201, answer
        return str(answer["id"])

    def state(self, job_id: str) -> str:
        """The state of a job."""
        return str(self.ask("GET", f"/api/v1/jobs/{job_id}")[1]["job"]["state"])

    # --- ending

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(LIMIT)

    def stop(self) -> int:
        """Ask it to stop and wait; return the exit code."""
        self.signal()
        return self.wait()

    def kill(self) -> None:
        """End it without a word, if it is not over."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT)
        self.sock.connect(os.fspath(self._path))
