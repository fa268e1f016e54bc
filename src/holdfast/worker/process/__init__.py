"""Runs handlers in child processes, which can be killed: `ProcessPool` in the worker, `child` in the process it starts.

How a job goes through it:

    worker            pool                      child (fresh interpreter)
      run(call) ────► take or spawn a child ──► import the app, once           Load  → Loaded
                      send the call ──────────► bind, run the handler          Start → Progress, Log …
      ChildResult ◄── decode, or say why ◄───── program.ending / .failed             → Result

Nothing waits for an answer alone: every wait also ends when the child's socket or the child itself does. What the child
does to its own process (exits, is killed, closes files, prints, forks) is the job's affair and ends the job, never the pool.
"""

from holdfast.worker.process.pool import ChildResult, ProcessPool

__all__ = ["ChildResult", "ProcessPool"]
