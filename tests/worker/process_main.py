"""A worker in a process of its own, for the tests of signals: says on stdout what happens, and obeys stdin.

`python -m tests.worker.process_main TASK`: enqueues two jobs of TASK, runs one at a time, and at the end prints the states.
"""

import asyncio
import sys
import threading
import time

from holdfast.job.model import InstanceState, NewJob
from holdfast.stores.memory import MemoryStore
from holdfast.worker.context import Context
from holdfast.worker.hooks import Hooks, Observer
from holdfast.worker.options import WorkerOptions
from holdfast.worker.signals import exit_process, install_signals
from holdfast.worker.worker import Worker
from tests.worker.rig import Functions

functions = Functions()
go = threading.Event()


def obey() -> None:
    sys.stdin.readline()
    go.set()


def say(text: str) -> None:
    print(text, flush=True)


@functions.task
async def patient(ctx: Context) -> None:
    say("running")
    await asyncio.to_thread(go.wait)


@functions.task
async def cancellable(ctx: Context) -> None:
    say("running")
    try:
        await asyncio.Event().wait()
    finally:
        say(f"cancelled: {ctx.cancel_reason}")


@functions.task
async def blocks_the_loop() -> None:
    say("running")
    while True:
        time.sleep(3_600)


@functions.task(limit=0.05, grace=0.05)
async def never_stops() -> None:
    say("running")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("swallowed")


@functions.task(limit=0.05, grace=0.05)
def never_stops_in_a_thread() -> None:
    say("running")
    threading.Event().wait()


class Announcer(Observer):
    def moved(self, state: InstanceState) -> None:
        say(f"worker: {state}")


async def main(task: str) -> None:
    store = MemoryStore()
    await store.open()
    ids = ["first", "second"]
    await store.enqueue([NewJob(id=job_id, task=task) for job_id in ids])
    worker = Worker(store, functions, WorkerOptions(queues={"default": 1}), hooks=Hooks(observers=(Announcer(),)))
    with install_signals(worker.stop):
        code = await worker.run()
    say("states: " + " ".join(job.state for job in await store.jobs(ids) if job))
    if worker.zombies:
        exit_process(code)
    sys.exit(code)


if __name__ == "__main__":
    threading.Thread(target=obey, daemon=True).start()
    asyncio.run(main(sys.argv[1]))
