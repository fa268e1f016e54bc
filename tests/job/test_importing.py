"""Jobs that come from another store: they are as they were, their tokens go on, and what is here already stays."""

import pytest
from msgspec.structs import replace

from holdfast.errors import ContentError
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.external import EXTERNAL
from holdfast.job.ledger.rollup import HOURS, MINUTES
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, State
from tests.job.bench import Bench


@pytest.fixture
def old() -> Bench:
    """The store that was exported, with a job in each state."""
    bench = Bench()
    bench.add("running", "asked", "failed", "succeeded")
    running, asked, failed, succeeded = bench.claim(4)
    assert running.id == "running"
    bench.do(c.Order(action=c.Cancel(why="no"), selection=c.Selection(ids=(asked.id,)), who="ann"))
    bench.settle(failed, c.Failed(c.ErrorInfo("E", "broke", ""), retryable=False))
    bench.settle(succeeded, c.Succeeded(b"1"))
    bench.add("scheduled", delay=500.0, tags=("a",), payload=b'{"x":1}')
    bench.add("queued", "held", priority=5, unique=None)
    bench.add("unique", unique="u", unique_window=900.0)
    bench.do(c.Order(action=c.Pause(), selection=c.Selection(ids=("held",)), who="ann"))
    return bench


def moved(old: Bench, new: Bench, epoch: int = 1) -> tuple[c.Ruling, ...]:
    jobs = tuple(sorted(old.ledger.table.values(), key=lambda job: job.seq))
    rulings: tuple[c.Ruling, ...] = new.do(c.Import(jobs=jobs, epoch=epoch))
    return rulings


def same(job: Job) -> Job:
    return replace(job, seq=0)


def test_jobs_are_as_they_were_and_in_their_old_order(old: Bench) -> None:
    new = Bench()
    new.add("other")
    assert all(ruling.done for ruling in moved(old, new))
    for name in ("failed", "succeeded", "scheduled", "queued", "held", "unique"):
        assert same(new.job(name)) == same(old.job(name)), name
    ids = [job.id for job in new.ledger.table.values()]
    assert ids == ["other", *(job.id for job in old.ledger.table.values())]


def test_a_job_that_ran_is_ready_again_unspent_and_a_cancel_that_was_asked_is_done(old: Bench) -> None:
    new = Bench()
    moved(old, new)
    running, asked = new.job("running"), new.job("asked")
    assert (running.state, running.attempt, running.failures) == (State.QUEUED, 1, 0)
    assert running.last is not None
    assert (running.last.end, running.last.reason) == (End.RELEASED, "it was running when it was exported")
    assert (asked.state, asked.finished_at) == (State.CANCELED, new.now)


def test_tokens_go_on_above_all_that_the_other_store_gave_out(old: Bench) -> None:
    new = Bench()
    before = old.job("running").token
    moved(old, new, epoch=7)
    tokens = {claim.id: claim.token for claim in new.claim(10)}
    assert tokens["running"] >= 8 << 32 > before
    assert new.ledger.epoch == 8
    moved(old, new, epoch=3)
    assert new.ledger.epoch == 8


def test_what_is_here_already_is_left_as_it_is(old: Bench) -> None:
    new = Bench()
    new.add("queued", payload=b'{"mine":1}')
    new.add("holder", unique="u")
    rulings = {ruling.id: ruling.why for ruling in moved(old, new) if not ruling.done}
    assert rulings == {
        "queued": "its id is here already: it is left as it is",
        "unique": "its unique key 'u' is held by job holder",
    }
    assert new.job("queued").payload == b'{"mine":1}'
    assert not any(ruling.done for ruling in moved(old, new))


def test_an_entry_of_the_audit_log_is_kept_as_it_is_told() -> None:
    bench = Bench()
    bench.do(c.Audit(who="ann\ud800", action="import", subject="s" * 2_000, detail="d", count=3))
    [entry] = bench.ledger.audit
    assert (entry.who, entry.action, len(entry.subject), entry.detail) == ("ann\\ud800", "import", 1_000, "d")
    assert (entry.count, entry.at) == (3, bench.now)


def test_a_replay_may_be_told_to_wait(old: Bench) -> None:
    order = c.Order(action=c.Replay(delay=60.0), selection=c.Selection(ids=("failed",)), who="ann")
    [ruling] = old.do(order).rulings
    made = old.job(ruling.made)
    assert (made.state, made.run_at, made.replay_of) == (State.SCHEDULED, old.now + 60.0, "failed")
    for delay in (-1.0, float("nan"), 1e12):
        with pytest.raises(ContentError, match="delay"):
            old.do(c.Order(action=c.Replay(delay=delay), selection=c.Selection(ids=("failed",))))


def test_figures_and_the_audit_log_come_once_however_often_they_are_brought(old: Bench) -> None:
    old.add("a", "b")
    claims = old.claim(2)
    old.do(c.SettleAll(tuple(c.Settlement(claim, c.Succeeded(b"1")) for claim in claims)))
    figures = tuple(figure for span in (MINUTES, HOURS) for figure in old.ledger.rollup.figures(span, 0, 10**9))
    records = c.ImportRecords(figures=figures, audit=(*old.ledger.audit, *old.ledger.audit))
    new = Bench()
    assert new.do(records) == len(figures) + len(old.ledger.audit) > len(figures) > 1
    assert new.do(records) == 0
    for span in (MINUTES, HOURS):
        assert new.ledger.rollup.figures(span, 0, 10**9) == old.ledger.rollup.figures(span, 0, 10**9)
        assert new.ledger.rollup.figures(span, 10**8, 10**9) == []
    assert old.do(c.ImportRecords(figures=figures)) == 0, "its own figures are known to it"


def test_an_entry_of_another_audit_log_has_the_place_of_its_time(old: Bench) -> None:
    [*known] = old.ledger.audit
    entry = f.Audited("eve", "queue.pause", "mail", "", known[0].at - 1.0, 1)
    assert old.do(c.ImportRecords(audit=(entry,))) == 1
    assert list(old.ledger.audit) == [entry, *known]


def test_a_record_that_waits_elsewhere_is_handed_to_nobody_here_either() -> None:
    new = Bench()
    record = Job(seq=7, id="elsewhere", task="t", origin=EXTERNAL, created_at=1.0, updated_at=1.0)
    tried = replace(
        record, id="tried", origin="engine", last=Attempt(1, 9, "i", "w", 1.0, end=End.LOST), attempt=1, token=9
    )
    assert all(ruling.done for ruling in new.do(c.Import(jobs=(record, tried), epoch=1)))
    assert [claim.id for claim in new.claim(5)] == ["tried"]
