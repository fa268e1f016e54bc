"""A task: function, policy, typed arguments; the registry; the handle on an enqueued job."""

from holdfast.task.handle import Handles, JobHandle, SyncHandle
from holdfast.task.host import Host
from holdfast.task.options import Options
from holdfast.task.outcomes import cancel, done, fail, snooze
from holdfast.task.policy import Policy, TaskOptions, make_policy
from holdfast.task.registry import Registry
from holdfast.task.task import AsyncTask, Bound, Call, PlainTask, SyncBound, Task

__all__ = [
    "AsyncTask",
    "Bound",
    "Call",
    "Handles",
    "Host",
    "JobHandle",
    "Options",
    "PlainTask",
    "Policy",
    "Registry",
    "SyncBound",
    "SyncHandle",
    "Task",
    "TaskOptions",
    "cancel",
    "done",
    "fail",
    "make_policy",
    "snooze",
]
