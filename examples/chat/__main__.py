"""`python -m examples.chat`: nine users talk; one of the three workers is killed while they do; every line is kept.

With `--redis URL` it uses that Redis; without, it starts one of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from examples.chat.parts import node, redis, started

USERS = [f"user:{number}" for number in range(9)]
MESSAGES = 20
KILL_AFTER = 7
WORKERS = 3
LIMIT_SECONDS = 120.0


async def pods(count: int) -> None:
    """Wait until so many workers have published themselves."""
    from examples.chat.app import app

    router = await app.stickies.router()
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(await router.executor.get_service_state("holdfast", "chat")) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def talk(user: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Send messages one after the other, each when the last was answered."""
    from examples.chat.app import say

    answers = []
    for number in numbers:
        handle = await say.using(key=user).enqueue(f"message {number} of {user}")
        answers.append(await handle.result(LIMIT_SECONDS))
    return answers


async def converse(workers: Sequence[subprocess.Popen[bytes]]) -> dict[str, list[dict[str, Any]]]:
    """Let all users talk, and kill a worker in the middle."""
    from examples.chat.app import app

    async with app:
        await pods(WORKERS)
        first = await asyncio.gather(*(talk(user, range(KILL_AFTER)) for user in USERS))
        homes = {user: answers[-1]["pid"] for user, answers in zip(USERS, first, strict=True)}
        victim = next(worker for worker in workers if worker.pid == homes[USERS[0]])
        moving = [user for user in USERS if homes[user] == victim.pid]
        print(
            f"{len(USERS)} users live in {len(set(homes.values()))} workers. kill -9 {victim.pid}: the home of {moving}"
        )
        rest = asyncio.gather(*(talk(user, range(KILL_AFTER, MESSAGES)) for user in USERS))
        victim.send_signal(signal.SIGKILL)
        return {user: [*before, *after] for user, before, after in zip(USERS, first, await rest, strict=True)}


def account(data: Path, told: dict[str, list[dict[str, Any]]]) -> int:
    """Compare what was answered with what was kept; return the exit code."""
    database = sqlite3.connect(data / "chat.db")
    try:
        faults = 0
        for user, answers in told.items():
            kept = database.execute("SELECT text FROM line WHERE user = ? ORDER BY rowid", [user]).fetchall()
            whole = [row[0] for row in kept] == [f"message {number} of {user}" for number in range(MESSAGES)]
            epochs = [answer["epoch"] for answer in answers]
            homes = list(dict.fromkeys(answer["pid"] for answer in answers))
            moved = f"moved {' -> '.join(map(str, homes))}" if len(homes) > 1 else f"stayed in {homes[0]}"
            faults += not whole or epochs != sorted(epochs)
            print(f"  {user}: {len(kept)} lines in order, {moved}, {len(set(epochs))} epochs")
        print("nothing is lost" if not faults else f"{faults} conversations are not whole")
        return 1 if faults else 0
    finally:
        database.close()


def main() -> int:
    """Run the example in a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description=__doc__)
    parser.add_argument("--redis", help="the router's URL; without it a Redis is started")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hf-chat-") as name, ExitStack() as stack:
        folder = Path(name)
        data, log = folder / "data", stack.enter_context((folder / "log").open("ab"))
        url = stack.enter_context(redis(folder, log, given.redis))
        stack.enter_context(node(data, log))
        # Set before the app is imported, here and in the workers.
        os.environ |= {"HOLDFAST_CHAT_DATA": str(data), "HOLDFAST_CHAT_REDIS": url}
        command = [sys.executable, "-m", "examples.chat.app"]
        workers = [stack.enter_context(started(command, log)) for _ in range(WORKERS)]
        told = asyncio.run(converse(workers))
        return account(data, told)


if __name__ == "__main__":
    sys.exit(main())
