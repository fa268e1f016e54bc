"""The chat: one conversation per user, in the memory of the worker process that has the user.

    HOLDFAST_CHAT_DATA    the folder of the node, and of the conversations
    HOLDFAST_CHAT_REDIS   the router's URL

A conversation is too costly to load for every message (a real one would hold the model's warm cache), so it is built
once, on the worker that has the user, and kept there. What must not be lost is written to a database; each write carries
the user's epoch, so that a worker that lost the user without knowing it can not overwrite the newer one's lines.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from holdfast import Context, Holdfast, injected

DATA = Path(os.environ.get("HOLDFAST_CHAT_DATA", "data"))
app = Holdfast(
    f"journal:{DATA}", role="client", router=os.environ.get("HOLDFAST_CHAT_REDIS", "redis://127.0.0.1:6379/0")
)
chat = app.sticky("chat", ttl="2m", on_lost="rebind")

TABLES = """
CREATE TABLE IF NOT EXISTS owner (user TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS line (
    user TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, answer TEXT NOT NULL, pid INTEGER NOT NULL,
    PRIMARY KEY (user, id)
);
"""
#: Refuses a former owner: the epoch of a user only grows.
FENCE = """
INSERT INTO owner VALUES (?, ?)
ON CONFLICT (user) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch >= owner.epoch
"""


class Conversation:
    """What was said with one user: in memory, and in the database behind it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.database = sqlite3.connect(DATA / "chat.db", timeout=30.0, isolation_level=None)
        self.database.executescript(TABLES)
        self.texts = [
            row[0] for row in self.database.execute("SELECT text FROM line WHERE user = ? ORDER BY rowid", [user])
        ]

    def answer(self, text: str) -> str:
        """Answer a message: a stand-in for a model that has the whole conversation before it."""
        return f"That is your message {len(self.texts) + 1}, {len(' '.join([*self.texts, text]))} letters in all."

    def keep(self, id: str, text: str, answer: str, epoch: int) -> None:
        """Write a line, once however often it is tried. Raises PermissionError for a former owner."""
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self.database.execute(FENCE, [self.user, epoch]).rowcount == 0:
                raise PermissionError(f"{self.user}: another worker has this user under a newer epoch than {epoch}")
            self.database.execute(
                "INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?)", [self.user, id, text, answer, os.getpid()]
            )
        self.texts.append(text)


@chat.state
async def conversation(user: str) -> AsyncIterator[Conversation]:
    """Load a user's conversation, once on the worker that has the user."""
    loaded = Conversation(user)
    yield loaded
    loaded.database.close()


@app.task("chat.say", sticky=chat, queue="chat", max_attempts=20, backoff=["0.2s"])
async def say(text: str, ctx: Context = injected) -> dict[str, Any]:
    """Answer one message of the user that is the job's key."""
    talk: Conversation = ctx.local
    answer = talk.answer(text)
    talk.keep(ctx.id, text, answer, ctx.epoch)
    return {"answer": answer, "pid": os.getpid(), "pod": ctx.job.pod, "epoch": ctx.epoch}


if __name__ == "__main__":
    raise SystemExit(app.run({"chat": 20}, lease=8.0, worker="chat"))
