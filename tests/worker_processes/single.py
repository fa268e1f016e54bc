"""A worker process of its own, without a parent: `python -m tests.worker_processes.single LEASE`."""

import sys

from tests.worker_processes.fleet import app

if __name__ == "__main__":
    sys.exit(app.run(queues={"default": 5}, lease=float(sys.argv[1])))
