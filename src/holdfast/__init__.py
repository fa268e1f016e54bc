"""Durable tasks for Python.

from holdfast import Holdfast

app = Holdfast("journal:./data")

@app.task("mail.welcome", queue="mail", max_attempts=5, timeout="30s")
async def welcome(user_id: int, lang: str = "en") -> str: ...

job = await welcome.enqueue(42, lang="de")
app.run(queues={"mail": 50})
"""

from holdfast.app import Holdfast, load_app
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.task import JobHandle, Task, cancel, done, fail, injected, snooze
from holdfast.worker.context import Context, current

__all__ = [
    "Context",
    "Holdfast",
    "JobHandle",
    "RetryPolicy",
    "State",
    "Task",
    "cancel",
    "current",
    "done",
    "fail",
    "injected",
    "load_app",
    "snooze",
]
