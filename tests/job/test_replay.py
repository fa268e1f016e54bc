"""The same facts, applied again, end in the same state: whole, cut anywhere, from a snapshot, or folded job by job."""

import ast
from pathlib import Path

import pytest

import holdfast.job
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, canonical, execute, fold, validate
from holdfast.job.ledger.snapshot import records_of, restore
from holdfast.job.model import Job
from tests.features import feature
from tests.job.histories import QUEUES, Life

SEEDS = range(60)
STEPS = 250


@feature("B17", "B18", "B44", "B48", "BW3", "BW4", "BW20")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_ledger_never_contradicts_itself_and_a_replay_ends_where_it_is(seed: int) -> None:
    life = Life(seed)
    for _ in range(STEPS // 10):
        life.live(10)
        assert validate(life.ledger) == []
    again = Ledger()
    again.replay(life.facts)
    assert canonical(again) == canonical(life.ledger)
    assert again.stopped == life.ledger.stopped
    assert validate(again) == []


@feature("B17", "B44", "B48", "BW2", "BW7", "BW9")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_that_is_cut_anywhere_can_go_on_from_a_snapshot_of_that_moment(seed: int) -> None:
    life = Life(seed).live(STEPS)
    whole, cut = Ledger(), Ledger()
    for n, group in enumerate(life.groups):
        whole.replay(f.decode_facts(f.encode_facts(group)))
        cut.replay(group)
        if n % 40 == seed % 40:
            fresh = Ledger()
            assert restore(fresh, records_of(cut)) == len(cut.table)
            assert canonical(fresh) == canonical(whole)
            assert fresh.stopped == cut.stopped
            assert validate(fresh) == []
            cut = fresh
    assert canonical(cut) == canonical(whole) == canonical(life.ledger)


@feature("B17", "B33")
@pytest.mark.parametrize("seed", SEEDS[:20])
def test_a_restored_ledger_decides_what_the_first_one_would(seed: int) -> None:
    life = Life(seed).live(STEPS)
    fresh = Ledger()
    restore(fresh, records_of(life.ledger))
    fresh.index.leases.update(life.ledger.index.leases)
    fresh.beats.update(life.ledger.beats)
    now = life.clock.now() + 10.0
    wants = tuple(c.QueueWant(name, 5) for name in QUEUES)
    commands = (c.Want(queues=wants, limit=15, instance="i1"), c.InstanceDied(instance="i1", detail="x"))
    for command in (*commands, c.Rescue(limit=1_000), c.Want(queues=wants, limit=15, instance="i2")):
        facts = [execute(ledger, command, now, Level())[0] for ledger in (life.ledger, fresh)]
        assert sorted(map(repr, facts[0])) == sorted(map(repr, facts[1]))
        now += 1_000.0
    assert canonical(fresh) == canonical(life.ledger)


class Level:
    """Chance without chance."""

    def unit(self) -> float:
        return 0.5

    def job_id(self, now: float) -> str:
        raise AssertionError("none of these commands makes a job")


@feature("B17")
@pytest.mark.parametrize("seed", SEEDS[:20])
def test_folding_facts_job_by_job_needs_no_index(seed: int) -> None:
    life = Life(seed).live(STEPS)
    jobs: dict[int, Job | None] = {}
    for fact in life.facts:
        late = isinstance(fact, f.Refused) and jobs.get(fact.seq) is None  # about a job that is gone: nothing to fold
        if isinstance(fact, f.JobFact) and not late:
            jobs[fact.seq] = fold(jobs.get(fact.seq), fact)
    assert {seq: job for seq, job in jobs.items() if job is not None} == life.ledger.table


@feature("B48")
def test_a_fact_that_comes_twice_is_refused_and_not_applied_again() -> None:
    life = Life(1).live(STEPS)
    again = Ledger()
    again.replay(life.facts)
    added = next(fact for fact in life.facts if isinstance(fact, f.Added))
    with pytest.raises(ValueError, match="was added"):
        again.apply(added)


@feature("B44")
def test_the_core_asks_neither_clock_nor_chance_nor_world() -> None:
    forbidden = {
        "time",
        "random",
        "uuid",
        "secrets",
        "os",
        "socket",
        "asyncio",
        "threading",
        "pathlib",
        "io",
    }
    folder = Path(holdfast.job.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, f"{path.name} imports {names}"
            # Moments and days may be named as types; what they are just now may not be asked.
            asked = node.attr if isinstance(node, ast.Attribute) else ""
            assert asked not in {"now", "utcnow", "today"}, f"{path.name} asks for {asked}()"


@feature("B44")
def test_the_same_life_gives_the_same_facts() -> None:
    assert Life(7).live(STEPS).facts == Life(7).live(STEPS).facts


def test_lives_reach_every_fact_that_commands_can_make() -> None:
    seen = {type(fact) for seed in SEEDS for fact in Life(seed).live(STEPS).facts}
    assert {f.Bound, f.KeyLinked, f.Exported, f.Figured, f.Forgotten, f.Reported} >= set(KINDS) - seen


KINDS = f.Fact.__args__
