"""The example is a promise too."""

import re
import subprocess
import sys

from tests.features import feature
from tests.node.processes import ROOT, environment
from tests.support.servers import redis


@feature("A28")
def test_in_the_example_a_worker_is_killed_its_users_move_and_no_line_is_lost() -> None:
    redis.need()
    ended = subprocess.run(
        [sys.executable, "-m", "examples.chat"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "9 users live in 3 workers" in ended.stdout
    assert ended.stdout.count("20 lines in order") == 9
    # How many lived in the killed worker is the router's choice: about a third of them.
    killed = re.search(r"kill -9 \d+: the home of \[(.*)\]", ended.stdout)
    assert killed is not None
    lived_there = len(killed[1].split(","))
    assert 1 <= lived_there <= 5
    assert len(re.findall(r"moved \d+ -> \d+, 2 epochs", ended.stdout)) == lived_there
    assert ended.stdout.count("stayed in") == 9 - lived_there
    assert "nothing is lost" in ended.stdout
