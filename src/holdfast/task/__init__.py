"""A task: function, policy, typed arguments; the registry; the handle on an enqueued job."""

from holdfast.task.handle import Handles, JobHandle, SyncHandle
from holdfast.task.host import Host
from holdfast.task.injected import injected
from holdfast.task.options import Options, place
from holdfast.task.outcomes import cancel, done, fail, snooze
from holdfast.task.policy import Policy, TaskOptions, make_policy
from holdfast.task.program import TaskProgram, TaskPrograms
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
    "TaskProgram",
    "TaskPrograms",
    "cancel",
    "done",
    "fail",
    "injected",
    "make_policy",
    "place",
    "snooze",
]
