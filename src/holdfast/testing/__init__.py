"""What users get for their tests: steered time, jobs that run at once, contract suites for those who write a store.

with app.testing(inline=True):            # each job runs when it is enqueued, and raises what it raises
await drain(app, clock)                   # runs what is ready, moves the clock to what is due, until nothing is left
await assert_enqueued(app, welcome, 42)   # says what was enqueued instead
async for crash in simulate_crashes(charge, "order-1"):
    assert bank.charges == ["order-1"], crash
"""

from holdfast.clock import ManualClock
from holdfast.testing.asserts import assert_enqueued
from holdfast.testing.crash import Crash, simulate_crashes
from holdfast.testing.drain import drain

__all__ = ["Crash", "ManualClock", "assert_enqueued", "drain", "simulate_crashes"]
