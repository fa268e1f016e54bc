"""The app of the node's tests. What its handlers do is steered by files, so that tests wait for events and not for time."""

import asyncio
import os
from pathlib import Path

from holdfast import Context, Holdfast

app = Holdfast()


@app.task("mail.welcome", queue="mail")
async def welcome(user_id: int, lang: str = "en") -> str:
    """Succeed."""
    return f"{lang}:{user_id}"


@app.task("shop.bad", max_attempts=1)
async def bad(text: str = "no good") -> None:
    """Fail for good."""
    raise ValueError(text)


@app.task("shop.flaky", max_attempts=2, backoff=["0s"])
async def flaky(*, ctx: Context) -> str:
    """Fail once, then succeed."""
    if ctx.attempt == 1:
        raise ValueError("once")
    return "at last"


@app.task("shop.gate")
async def gate(opened: str) -> str:
    """Say that it has begun, and wait until the file `opened` is there."""
    path = Path(opened)
    path.with_suffix(".begun").write_text(str(os.getpid()))
    while not path.exists():  # noqa: ASYNC110 - a file is what another process can make
        await asyncio.sleep(0.01)
    return "through"


@app.task("shop.stubborn", cancel_grace=60)
async def stubborn(begun: str) -> None:
    """Say that it has begun, and never stop, whatever is asked."""
    Path(begun).write_text("begun")
    while True:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            Path(begun).with_suffix(".asked").write_text("asked")


@app.task("shop.deaf", cancel_grace=0)
async def deaf(begun: str) -> None:
    """Never stop, and be given up as soon as that shows."""
    await stubborn(begun)


@app.task("shop.where")
async def where(opened: str) -> int:
    """Wait until the file `opened` is there; say which process it was."""
    await gate(opened)
    return os.getpid()
