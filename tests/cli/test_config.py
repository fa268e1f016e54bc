"""Settings: which origin wins, what is refused, and that all faults are told at once."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.config import resolve
from holdfast.config.settings import FIELDS
from holdfast.errors import ConfigError
from tests.cli.conftest import Command
from tests.features import feature

SEED = """worker_count: 8
task_timeout: 3s
snapshot_interval: 2s
max_retry: 3
wal_path: ./data/wal.log
snapshot_path: ./data/snapshot.json
metrics_port: 9090
"""


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "holdfast.yaml"
    path.write_text(text)
    return path


def faults_of(flags: dict[str, Any], environment: dict[str, str], file: Path | None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(flags, environment, file)
    return list(caught.value.faults)


@feature("B5")
def test_the_older_file_works_as_it_is(tmp_path: Path) -> None:
    settings = resolve({}, {}, file_of(tmp_path, SEED)).settings
    assert (settings.worker_count, settings.task_timeout, settings.snapshot_interval) == (8, 3.0, 2.0)
    assert (settings.max_retry, settings.metrics_port, settings.data) == (3, 9090, Path("data"))


@feature("B6")
def test_a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default(tmp_path: Path) -> None:
    file = file_of(tmp_path, "worker_count: 2\nport: 1000\nlease: 10s\n")
    found = resolve({"worker_count": "4"}, {"HOLDFAST_WORKER_COUNT": "3", "HOLDFAST_PORT": "2000"}, file)
    settings = found.settings
    assert (settings.worker_count, settings.port, settings.lease, settings.grace) == (4, 2000, 10.0, 30.0)
    assert found.origin("worker_count") == "flag --workers"
    assert found.origin("port") == "variable HOLDFAST_PORT"
    assert found.origin("lease") == f"{file}:3"
    assert found.origin("grace") == "default"


def test_variables_that_single_commands_read_are_no_faults() -> None:
    """The index of a pod, and where sticky services keep their links."""
    own = {"HOLDFAST_POD_INDEX": "3", "HOLDFAST_ROUTER": "redis://localhost", "HOLDFAST_NAMESPACE": "shop"}
    assert resolve({}, {**own, "HOLDFAST_PORT": "2000"}, None).settings.port == 2000


@feature("BW24")
def test_all_faults_are_told_at_once_with_their_origin(tmp_path: Path) -> None:
    file = file_of(tmp_path, "worker_cout: 8\ntask_timeout: -3s\nport: true\nqueues: {a: 0, b c: 2, d: fast}\n")
    faults = faults_of({"worker_count": "many"}, {"HOLDFAST_PROT": "5", "HOLDFAST_LEASE": "soon"}, file)
    text = "\n".join(faults)
    assert len(faults) == 9
    for words in (
        f"{file}:1: worker_cout: no such setting (did you mean worker_count?)",
        f"{file}:2: task_timeout: expected",
        f"{file}:3: port: expected a whole number from 0 to 65,535",
        f'{file}:4: queues: a: expected a number of jobs at once (1 to 100,000) or "serial", found 0.',
        f"{file}:4: queues: expected names of queues, found 'b c'.",
        f"{file}:4: queues: d: expected a number of jobs at once",
        "variable HOLDFAST_PROT: no such setting (did you mean HOLDFAST_PORT?)",
        "variable HOLDFAST_LEASE: lease: expected",
        "flag --workers: worker_count: expected a whole number",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: 1\nport: 2\n", ':2: found duplicate key "port"'),
        ("port: [1\n", ":2: "),
        ("- a\n- b\n", ":1: expected settings such as `worker_count: 8`, found a list."),
        ("just text", ":1: expected settings such as `worker_count: 8`, found 'just text'."),
        ("- " * 3_000 + "a\n", ": expected settings such as `worker_count: 8`, found values within values"),
        ("a: !!python/object:os.system {}\n", ":1: a: no such setting"),
    ],
)
def test_a_file_that_is_no_settings_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    file = file_of(tmp_path, text)
    assert f"{file}{words}" in "\n".join(faults_of({}, {}, file))


def test_log_and_snapshots_in_two_folders_are_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path, "wal_path: ./a/wal.log\nsnapshot_path: ./b/snapshot.json\n")
    assert "one folder, found several" in faults_of({}, {}, file)[0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3s", 3.0), ("500ms", 0.5), ("1h30m", 5_400.0), ("2", 2.0), (4, 4.0), ("none", None), (None, None)],
)
def test_durations_are_read_as_people_write_them(value: Any, seconds: float | None, tmp_path: Path) -> None:
    written = "null" if value is None else value
    assert resolve({}, {}, file_of(tmp_path, f"task_timeout: {written}\n")).settings.task_timeout == seconds


def test_queues_are_read_from_all_three_places(tmp_path: Path) -> None:
    expected = {"mail": 5, "ledger": "serial"}
    file = file_of(tmp_path, "queues:\n  mail: 5\n  ledger: serial\n")
    assert resolve({}, {}, file).settings.queues == expected
    assert resolve({}, {"HOLDFAST_QUEUES": "mail=5, ledger=serial"}, None).settings.queues == expected
    assert resolve({"queues": ("mail=5", "ledger=serial")}, {}, None).settings.queues == expected


def test_config_prints_every_setting_with_its_origin_and_hides_secrets(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path, "worker_count: 3\n")
    monkeypatch.setenv("HOLDFAST_API_TOKEN", "a-secret-that-nobody-sees")
    found = cli("config", "--json", "--data", "elsewhere").json
    assert set(found) == {field.name for field in FIELDS}
    assert found["worker_count"] == {"value": 3, "origin": "holdfast.yaml:1", "variable": "HOLDFAST_WORKER_COUNT"}
    assert found["data"]["origin"] == "flag --data"
    assert found["port"]["origin"] == "default"
    text = cli("config").out
    assert "a-secret" not in text + str(found)
    assert "***" in text


def test_faults_of_settings_are_one_message_and_exit_code_3(cli: Command, tmp_path: Path) -> None:
    file_of(tmp_path, "port: x\nhsot: y\n")
    answer = cli("config")
    assert (answer.code, answer.out) == (3, "")
    assert "2 settings can not be used" in answer.err
    assert cli("run").code == 3
    missing = cli("status", "--config", "none.yaml")
    assert (missing.code, "flag --config" in missing.err) == (3, True)
