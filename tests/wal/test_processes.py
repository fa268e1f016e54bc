"""T10 of the test plan: several processes, forks, a frozen owner, a copied folder."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import holdfast
from holdfast.errors import StoreUnavailable
from holdfast.wal import Log, LogClosed, LogHeld, LogIO, Options, OsFiles, Recovery, open_log, read_holder
from holdfast.wal.lock import Holder, acquire, forget
from tests.features import feature
from tests.wal.conftest import Open
from tests.wal.disk import SimDisk
from tests.wal.helpers import payloads

OWNER = """
import os, sys
from holdfast.wal import Options, OsFiles, open_log
log = open_log(OsFiles(sys.argv[1]), Options(segment_bytes=65536))
log.wait_synced(log.append([b"from the owner"]))
print("owner", os.getpid(), flush=True)
for line in sys.stdin:
    if line == "fork\\n":
        child = os.fork()
        if child == 0:
            try:
                log.append([b"from the child"])
            except Exception as error:
                print("child", os.getpid(), type(error).__name__, flush=True)
            else:
                print("child", os.getpid(), "accepted", flush=True)
            import signal
            signal.pause()
    elif line == "spawn\\n":
        import subprocess
        other = subprocess.Popen(["sleep", "60"], close_fds=False)
        print("child", other.pid, "started", flush=True)
    elif line == "append\\n":
        log.wait_synced(log.append([b"more"]))
        print("done", flush=True)
"""


class Owner:
    """Another process that owns a journal and does what it is told."""

    def __init__(self, folder: OsFiles) -> None:
        source = os.path.dirname(os.path.dirname(holdfast.__file__))
        environment = {**os.environ, "PYTHONPATH": source}
        command = [sys.executable, "-c", textwrap.dedent(OWNER), folder.path]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self.children: list[int] = []
        self.pid = int(self.line().split()[1])

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, what: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.line()
        if answer.startswith("child"):
            self.children.append(int(answer.split()[1]))
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        for pid in [*self.children, self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def owner(folder: OsFiles) -> Iterator[Owner]:
    other = Owner(folder)
    yield other
    other.end()


@feature("BW17")
def test_a_second_process_is_refused_and_told_who_holds_the_journal(folder: OsFiles, owner: Owner) -> None:
    with pytest.raises(LogHeld, match=f"process {owner.pid} on ") as refused:
        open_log(folder)
    assert isinstance(refused.value, StoreUnavailable)
    assert read_holder(folder).pid == owner.pid
    owner.kill()
    assert payloads(folder, Options()) == [b"from the owner"]


def test_a_frozen_owner_still_holds_the_journal_and_goes_on_when_woken(folder: OsFiles, owner: Owner) -> None:
    os.kill(owner.pid, signal.SIGSTOP)
    with pytest.raises(LogHeld):
        open_log(folder)
    os.kill(owner.pid, signal.SIGCONT)
    assert owner.tell("append") == "done\n"


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_the_death_of_the_owner_frees_the_journal_though_a_child_lives(folder: OsFiles, owner: Owner, way: str) -> None:
    answer = owner.tell(way)
    assert answer.split()[2] == ("LogClosed" if way == "fork" else "started")
    with pytest.raises(LogHeld):
        open_log(folder)
    owner.kill()
    assert payloads(folder, Options()) == [b"from the owner"]
    os.kill(owner.children[0], 0)  # the child is alive


def test_a_copy_of_a_folder_in_use_is_a_journal_of_its_own(folder: OsFiles, owner: Owner) -> None:
    shutil.copytree(folder.path, f"{folder.path}-copy")
    copied = OsFiles(f"{folder.path}-copy")
    log = open_log(copied, Options(segment_bytes=65536))
    log.wait_synced(log.append([b"in the copy"]))
    log.close()
    assert owner.tell("append") == "done\n"
    owner.kill()
    assert payloads(copied, Options()) == [b"from the owner", b"in the copy"]
    assert payloads(folder, Options()) == [b"from the owner", b"more"]


WRITER = """
import sys
from holdfast.wal import OsFiles, Options, Recovery
recovery = Recovery.begin(OsFiles(sys.argv[1]), Options(segment_bytes=16384))
number = sum(1 for _ in recovery.replay())
log = recovery.serve()
while True:
    payloads = [b"%d" % (number + item) + bytes(number % 700) for item in range(number % 4 + 1)]
    last = log.append(payloads)
    number += len(payloads)
    log.wait_synced(last)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@feature("B57", "BW22")
def test_a_writer_that_is_killed_at_any_moment_has_lost_nothing_that_it_acknowledged(folder: OsFiles) -> None:
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(holdfast.__file__))}
    for cycle in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, folder.path], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(37 * cycle + 5)]
        writer.kill()
        # What was printed before the kill was acknowledged too; the last line may be torn.
        lines += [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        found = [int(payload.rstrip(b"\0")) for payload in payloads(folder, Options(segment_bytes=16384))]
        assert found == list(range(len(found)))
        assert len(found) >= int(lines[-1])


RACER = """
    import sys
    from holdfast.wal import LogHeld, OsFiles, open_log
    while sys.stdin.readline():
        try:
            log = open_log(OsFiles(sys.argv[1]))
        except LogHeld:
            print("held", flush=True)
            sys.stdin.readline()
        else:
            print("open", flush=True)
            sys.stdin.readline()
            log.close()
        print("ready", flush=True)
"""


def _race(folder: OsFiles, times: int, racers: int = 8) -> None:
    """Let processes open a folder at once, again and again; each time one of them succeeds."""
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(holdfast.__file__))}
    command = [sys.executable, "-c", textwrap.dedent(RACER), folder.path]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
            for _ in range(racers)
        ]
        for _ in range(times):
            assert sorted(_answers(started, "go")) == ["held"] * (racers - 1) + ["open"]
            assert _answers(started, "end") == ["ready"] * racers
        for racer in started:
            racer.communicate()


def _answers(racers: list["subprocess.Popen[str]"], word: str) -> list[str]:
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(f"{word}\n")
        racer.stdin.flush()
    return [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]


def test_of_many_processes_that_open_at_once_exactly_one_succeeds(folder: OsFiles) -> None:
    _race(folder, 3)


@pytest.mark.soak
def test_of_a_thousand_races_to_open_each_has_one_winner(folder: OsFiles) -> None:
    _race(folder, 1_000)


def test_a_forked_child_may_not_use_the_log_and_does_not_disturb_the_parent(folder: OsFiles, open_: Open) -> None:
    log = open_(folder, threaded=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, _tries(log))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"LogClosed LogClosed closed"
    os.close(reading)
    os.close(writing)
    assert log.wait_synced(log.append([b"from the parent"]), timeout=60)
    with pytest.raises(LogHeld):
        acquire(folder)


def _tries(log: Log) -> bytes:
    """What a child is answered when it uses its parent's log."""
    answers = []
    try:
        log.append([b"x"])
    except LogClosed:
        answers.append("LogClosed")
    try:
        log.wait_synced(99)
    except LogClosed:
        answers.append("LogClosed")
    log.close()
    return " ".join([*answers, log.health.state]).encode()


def test_a_fork_after_the_log_is_gone_finds_nothing_to_do(folder: OsFiles) -> None:
    open_log(folder).close()
    recovery = Recovery.begin(folder)
    recovery.close()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_in_a_child_the_lock_is_closed_and_those_who_rely_on_it_are_told(disk: SimDisk) -> None:
    lock, told = acquire(disk), list[str]()
    lock.on_fork(lambda: told.append("told"))
    forget(lambda: lock)
    assert told == ["told"]
    assert not lock.held
    assert disk._open == {}
    forget(lambda: None)


def test_the_lock_text_of_nobody_or_of_someone_else_says_nothing(disk: SimDisk) -> None:
    assert read_holder(disk) == Holder()
    assert read_holder(SimDisk({"LOCK": b"not json"})) == Holder()
    assert read_holder(SimDisk({"LOCK": b'{"pid": 7, "boot": "b", "host": "h"}\n'})) == Holder(7, "b", "h")


def test_a_lock_file_that_was_replaced_meanwhile_is_not_trusted() -> None:
    disk, pauses = SimDisk(), list[float]()
    acquire(disk)

    def replaced(call: str, name: str) -> None:
        if call == "open" and name == "LOCK":
            disk.before = None
            disk.unlink("LOCK")
            disk.close(disk.create("LOCK"))

    disk.before = replaced
    lock = acquire(disk, pauses.append)
    assert lock.held
    assert len(pauses) <= 1


def test_an_error_while_signing_the_lock_gives_it_back(disk: SimDisk) -> None:
    disk.fail_after(1, 28, "write")
    with pytest.raises(LogIO):
        open_log(disk, threaded=False)
    disk.before = None
    open_log(disk, threaded=False).abandon()
