"""`holdfast bench` measures and leaves nothing behind."""

from pathlib import Path

from tests.cli.conftest import Command


def test_bench_prints_figures_as_ratios_and_leaves_nothing(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = cli("bench", "--jobs", 1000, "--rounds", 1, "--json").json
    assert [one["name"].partition(",")[0] for one in found["figures"]].count("enqueues") == 3
    assert all(one["value"] > 0 for one in found["figures"])
    assert list((tmp_path / "data").iterdir()) == []
