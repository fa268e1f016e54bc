"""A node or workers with a sticky service of its own; SERVED_ROUTER: the URL of its router."""

import os

from holdfast import Context, Holdfast, injected

app = Holdfast(router=os.environ.get("SERVED_ROUTER", "memory:"))
chat = app.sticky("chat")


@app.task("say", sticky=chat)
async def say(text: str, ctx: Context = injected) -> list[object]:
    """Tell where it ran."""
    return [text, ctx.job.pod, ctx.epoch]
