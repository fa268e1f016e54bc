"""A node with a sticky service of its own."""

from holdfast import Context, Holdfast, injected

app = Holdfast()
chat = app.sticky("chat")


@app.task("say", sticky=chat)
async def say(text: str, ctx: Context = injected) -> list[object]:
    """Tell where it ran."""
    return [text, ctx.job.pod, ctx.epoch]
