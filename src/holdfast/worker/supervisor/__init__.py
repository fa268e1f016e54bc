"""Several worker processes under one parent, which starts, watches, restarts and beats for them.

    parent: Supervisor ── Keeper ── process (a Worker whose heart is a ParentHeart)
               │     └─── Keeper ── process
               └── store: heartbeat for each instance, instance_died when one is seen to die

Because the parent beats, a handler that blocks its process keeps its jobs; because the parent also watches, such a handler
does not keep them for ever: a process that is silent too long, or that let a time limit pass without a sign, is killed.

Signals: the first SIGTERM or SIGINT lets the processes drain, the second cancels their handlers, the third ends them now.
Exit codes: see `ExitCode`.
"""

from holdfast.worker.supervisor.exits import ExitCode
from holdfast.worker.supervisor.heart import ParentHeart
from holdfast.worker.supervisor.messages import LogForm, StorePlace
from holdfast.worker.supervisor.restarts import restart_delay
from holdfast.worker.supervisor.supervisor import Supervision, Supervisor, supervise

__all__ = [
    "ExitCode",
    "LogForm",
    "ParentHeart",
    "StorePlace",
    "Supervision",
    "Supervisor",
    "restart_delay",
    "supervise",
]
