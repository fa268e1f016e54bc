"""What people see: tables that stay readable on a narrow terminal."""

import asyncio
import os
import pty
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.cli.commands.jobs import _watched
from holdfast.cli.output import Output
from holdfast.job import commands as c
from holdfast.job.model import NewJob
from holdfast.job.state import State
from holdfast.stores.memory import MemoryStore
from tests.features import feature

JOB = "01a22dc2-61b1-7944-bf44-7f078384ff5b"
STATES = ["queue", "scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled", "paused"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setenv("COLUMNS", "80")
    out = Output(as_json=False)
    out.is_terminal = True
    return out


@feature("B56")
def test_an_id_stays_in_one_piece_on_a_narrow_terminal(narrow: Output, capsys: pytest.CaptureFixture[str]) -> None:
    narrow.table(
        ["id", "task", "queue", "state", "failures", "created (UTC)", ""],
        [(JOB, "mail.welcome", "default", "failed", "2/2", "2026-11-30 18:01:08", "no luck " * 5)],
    )
    lines = capsys.readouterr().out.splitlines()
    assert sum(JOB in line for line in lines) == 1
    assert all(len(line) <= 80 for line in lines)


@feature("B56")
def test_the_counts_of_all_states_fit_a_narrow_terminal(narrow: Output, capsys: pytest.CaptureFixture[str]) -> None:
    narrow.table(STATES, [("default", *[1_000_000] * 8)])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == STATES
    assert row.split() == ["default", *["1000000"] * 8]


def shown_on_terminal(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> str:
    """What a piece of work shows on a real terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        work()
        print("end", file=terminal, flush=True)
    text = b""
    while b"end" not in text:
        text += os.read(ours, 4_096)
    os.close(ours)
    return text.decode()


def in_two_steps(*, as_json: bool) -> None:
    with Output(as_json=as_json).progress("importing", 10) as done:
        done(4)
        done(6)


def test_long_work_shows_a_bar_on_a_terminal_and_nothing_beside_json(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_on_terminal(monkeypatch, lambda: in_two_steps(as_json=False))
    assert "importing" in shown
    assert "10/10" in shown
    assert shown_on_terminal(monkeypatch, lambda: in_two_steps(as_json=True)).strip() == "end"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_action_by_filter_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    async def cancel_all() -> None:
        store = MemoryStore()
        await store.open()
        await store.enqueue([NewJob(id=f"j{number}", task="t", delay=60.0) for number in range(2_500)])
        order = c.Order(action=c.Cancel(), selection=c.Selection(filter=c.JobFilter(task="t")), who="ann")
        session: Any = SimpleNamespace(out=Output(as_json=as_json))
        answer = await _watched(session, store, order, 2_500)
        assert (answer.done, (await store.stats()).total(State.CANCELED)) == (2_500, 2_500)

    shown = shown_on_terminal(monkeypatch, lambda: asyncio.run(cancel_all()))
    if as_json:
        assert shown.strip() == "end"
    else:
        assert "cancel" in shown
        assert "2500/2500" in shown


def test_long_work_shows_no_bar_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False).progress("importing", 10) as done:
        done(10)
    assert capsys.readouterr().err == ""
