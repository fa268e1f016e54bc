"""A chat as tests run it: `python -m tests.sticky.chat URL ROUTER NUMBER ON_LOST LEASE` is one worker process of it.

Each message tells where and under which epoch it ran, and which message it was of this state.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from holdfast import Context, Holdfast

SERVICE: Final = "chat"
#: Long enough that a busy machine loses no worker that lives.
LEASE: Final = 8.0


class Talk:
    """The state of one user: how many messages it has seen."""

    def __init__(self, key: str) -> None:
        self.key, self.seen = key, 0


def make_app(url: str, router: str, *, on_lost: str = "rebind", ttl: float = 30.0, **options: Any) -> Holdfast:
    """Return the app."""
    if url.startswith("journal:"):
        options["role"] = "client"
    app = Holdfast(url, router=router, **options)
    chat = app.sticky(SERVICE, ttl=ttl, on_lost=on_lost)

    @chat.state
    async def talk(key: str) -> AsyncIterator[Talk]:
        yield Talk(key)

    @app.task("say", sticky=chat, queue="chat", max_attempts=10, backoff=["0.05s"])
    async def say(number: int, nap: float = 0.0, *, ctx: Context) -> dict[str, Any]:
        local: Talk = ctx.local
        local.seen += 1
        await asyncio.sleep(nap)
        return {
            "number": number,
            "key": local.key,
            "seen": local.seen,
            "pod": ctx.job.pod,
            "epoch": ctx.epoch,
            "pid": os.getpid(),
        }

    return app


if __name__ == "__main__":
    url, router, number, on_lost, lease = sys.argv[1:6]
    served = make_app(url, router, on_lost=on_lost)
    print("started", flush=True)
    pod = None if number == "-" else int(number)
    sys.exit(served.run({"chat": 20}, lease=float(lease), pod=pod, grace=10.0, worker="chat"))
