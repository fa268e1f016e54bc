"""T59: what a hub is given in its settings stands in no log, page, metric, error or list of processes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.hub.test_command import HubProcess
from tests.node.processes import LIMIT, environment, holdfast

CANARY: Final = re.compile(r"canary-\d\d\d-s3Cr")
TOKEN: Final = "canary-100-s3Cr-0123456789abcdefghij"
PAGES: Final = ("/", "/session", "/metrics", "/readyz", "/api/v1/node", "/api/v1/store", "/api/v1/audit", "/nowhere")
#: Places with a password that no one answers at; the client fails with its own words.
NOWHERE: Final = (
    "postgresql://ann:canary-{n:03}-s3Cr@127.0.0.1:1/jobs",
    "postgresql://ann@127.0.0.1:1/jobs?password=canary-{n:03}-s3Cr",
    "mysql://ann:canary-{n:03}-s3Cr@127.0.0.1:1/jobs",
    "http://ann:canary-{n:03}-s3Cr@127.0.0.1:1",
)


def test_t59_a_hub_tells_nobody_its_settings(tmp_path: Path) -> None:
    secrets = {
        "HOLDFAST_URL": f"sqlite:///{tmp_path}/q.db",
        "HOLDFAST_API_TOKEN": TOKEN,
        "HOLDFAST_ROUTER": "redis://ann:canary-101-s3Cr@127.0.0.1:1/0",
    }
    hub = HubProcess(tmp_path / "data", "--log-level", "debug", **secrets)
    try:
        told = [Path(f"/proc/{hub.process.pid}/cmdline").read_text(), str(hub.info)]
        for path in PAGES:
            for secret in (TOKEN, hub.token, f"{TOKEN}x"):
                status, headers, text = hub.ask("GET", path, Authorization=f"Bearer {secret}")
                told += [text, str(headers)]
                assert status < 500, path
        for arguments in (("config",), ("config", "--json"), ("doctor", "--data", hub.data), ("audit",), ("status",)):
            done = holdfast(*arguments, cwd=tmp_path, **secrets)
            told += [done.stdout, done.stderr]
    finally:
        hub.end()
    told.append(hub.log.read_text())
    assert not [text for text in told if CANARY.search(text)]


@pytest.mark.parametrize("place", range(len(NOWHERE)))
def test_t59_a_place_that_does_not_answer_is_named_without_its_password(tmp_path: Path, place: int) -> None:
    url = NOWHERE[place].format(n=place)
    for arguments in (("migrate",), ("status",), ("doctor",), ("jobs", "ls", "--debug")):
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            cwd=tmp_path,
            env=environment(HOLDFAST_URL=url),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert not CANARY.search(done.stdout + done.stderr), arguments
        assert done.returncode != 0
