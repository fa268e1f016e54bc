"""A program that embeds a worker on a journal: `python -m tests.node.embedding FOLDER`. Says "ready" when it works."""

import os
import sys

from holdfast import Holdfast

app = Holdfast(f"journal:{sys.argv[1]}") if __name__ == "__main__" else Holdfast()


@app.task("far.away", queue="far")
async def far(number: int) -> list[int]:
    """Say which process it was."""
    return [os.getpid(), number * 2]


@app.lifespan
async def life():  # type: ignore[no-untyped-def]
    """Say that the store is open and shared."""
    print("ready", flush=True)
    yield


if __name__ == "__main__":
    sys.exit(app.run())
