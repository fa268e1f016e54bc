from pathlib import Path

import pytest

from scripts.plants import Plant, Trial, Verdict, load_plants, plant_in, stale, touched, try_all
from scripts.suites import ROOT, Suite, load

# Suites that may be without a plant for now. Empty is the aim.
PENDING: frozenset[str] = frozenset({"job", "wal", "contract", "app"})


SUITES = {name: Suite(name=name, budget_seconds=1, paths=(f"tests/{name}",)) for name in ("s", "t")}


def make(**changes: object) -> Plant:
    fields = {"name": "p", "suite": "s", "file": "src/a.py", "find": "old", "replace": "new", "why": "because"}
    return Plant(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 'old'\n")
    return tmp_path


def test_every_plant_still_finds_its_place() -> None:
    assert {p.name: reason for p in load_plants() if (reason := stale(p))} == {}


def test_every_plant_belongs_to_a_suite_and_has_a_name_of_its_own() -> None:
    names = [plant.name for plant in load_plants()]
    assert len(names) == len(set(names))
    assert sorted({plant.suite for plant in load_plants()} - {suite.name for suite in load()}) == []


def test_a_plant_without_tests_stands_in_a_suite_of_commands() -> None:
    with_commands = {suite.name for suite in load() if suite.commands}
    assert [p.name for p in load_plants() if not p.tests and p.suite not in with_commands] == []


def test_every_suite_has_a_plant() -> None:
    planted = {plant.suite for plant in load_plants()}
    bare = {suite.name for suite in load()} - planted
    assert sorted(bare - PENDING) == []
    if bare:
        pytest.skip(f"no plant yet for {', '.join(sorted(bare))}")


def test_a_plant_whose_text_is_gone_or_doubled_is_stale(tree: Path) -> None:
    assert stale(make(), tree) == ""
    assert "found it 0 times" in stale(make(find="gone"), tree)
    (tree / "src" / "a.py").write_text("old old")
    assert "found it 2 times" in stale(make(), tree)
    assert "does not exist" in stale(make(file="src/b.py"), tree)


def test_a_plant_is_written_into_the_given_tree_only(tree: Path) -> None:
    plant_in(make(), tree)
    assert (tree / "src" / "a.py").read_text() == "x = 'new'\n"


def with_test(test_text: str, tree: Path) -> Plant:
    (tree / "tests").mkdir()
    (tree / "tests" / "test_a.py").write_text(test_text)
    return make(tests=("tests/test_a.py",))


def test_a_fault_that_a_test_finds_is_caught(tree: Path) -> None:
    text = "def test_x() -> None:\n    assert 'old' in open('src/a.py').read()\n"
    plant = with_test(text, tree)
    assert Trial(SUITES, tree)(plant).word == "caught"
    assert "old" in (tree / "src" / "a.py").read_text()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("def test_x() -> None:\n    pass\n", "nothing failed"),
        ("def test_x() -> None:\n    assert False\n", "fails without the fault too"),
        ("if 'old' not in open('src/a.py').read():\n    import nowhere\ndef test_x(): pass\n", "no test failed"),
    ],
    ids=["passes", "fails anyway", "can not be collected"],
)
def test_a_fault_that_no_test_fails_on_is_missed(text: str, detail: str, tree: Path) -> None:
    verdict = Trial(SUITES, tree)(with_test(text, tree))
    assert (verdict.word, detail in verdict.detail) == ("MISSED", True)


def test_a_change_brings_all_plants_of_the_suites_it_touches() -> None:
    both = [make(name="one"), make(name="two", file="src/b.py"), make(name="far", suite="t", file="src/c.py")]
    assert [p.name for p in touched(both, frozenset({"src/b.py"}), SUITES)] == ["one", "two"]
    assert [p.name for p in touched(both, frozenset({"tests/t/test_x.py"}), SUITES)] == ["far"]
    assert [p.name for p in touched(both, frozenset({"tests/plants/t.toml"}), SUITES)] == ["far"]
    assert touched(both, frozenset({"README.md"}), SUITES) == []


def test_no_plant_is_begun_after_the_time_is_up() -> None:
    verdicts = try_all([make()], lambda plant: Verdict(plant, "caught"), jobs=1, seconds=0.0)
    assert [verdict.word for verdict in verdicts] == ["not run"]


def test_a_wrong_file_of_plants_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[plant]]\nname = "x"\n')
    with pytest.raises(ValueError, match=r"bad\.toml: Object missing required field"):
        load_plants(tmp_path)


def test_all_that_a_copy_needs_is_copied() -> None:
    assert [name for name in ("src", "tests", "scripts", "pyproject.toml") if not (ROOT / name).exists()] == []
