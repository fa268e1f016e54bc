"""T12 of the test plan, files that people write: what stands in them is read, or refused by a typed error with a place."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.cli.jobfile import BadJobFile, read_job_file
from holdfast.config import Settings, resolve
from holdfast.errors import ConfigError

CONFIG = b"""# a node
worker_count: 8
task_timeout: 3s
snapshot_interval: 2s
metrics_port: 9090
data: ./data
queues:
  mail: 50
  ledger: serial
hosts: [example.org, "127.0.0.1"]
"""
JOBS = b"""[{"id": "own-1", "task": "mail.welcome", "payload": {"user_id": 42}},
 {"task": "mail.welcome", "queue": "mail", "delay": "5m", "priority": 10, "tags": ["a"], "timeout": 2.5},
 {"id": "own-2", "payload": {"type": "mail.welcome", "user_id": [1, null, true, "\\u00e9"]}}]
"""
#: What breaks readers: signs of both languages, numbers at their ends, and text that is none.
PIECES = st.sampled_from(
    [
        *(piece.encode() for piece in '{}[]:,"\'|>&*!%@`#-? \t\n\r\\'),
        b"<<: *a", b"&a [*a, *a]", b"!!python/object:os.system", b"? ? ?", b"\\ud800", b"---\n", b"...\n", b"%YAML 9.9\n",
        b"1e400", b"-1e400", b"\x00", b".inf", b".nan", b"9" * 400, b"0x", b"1_000", b"1:30:00", b"2030-13-45", b"2001-01-01",
        b"\xef\xbb\xbf", b"null", b"~", b"no", b"Yes", b"\\u0000", b"\xff\xfe", b"\xf0\x9f", b"\xc3", b"\xe2\x80\xa8",
        b"[" * 2_000, b"{a: " * 500, b'{"a":' * 2_000, b"- " * 1_000, b'"id": "own-1",', b"worker_count: 9\n", b"prot: 1\n",
    ]
)  # fmt: skip
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "set", "cut", "double"]), st.integers(0, 1 << 16), st.one_of(PIECES, st.binary())
    ),
    max_size=5,
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, piece in changes:
        at = place % (len(data) + 1)
        end = {"insert": at, "set": at + len(piece), "cut": at + place % 40, "double": at}[kind]
        put = {"cut": b"", "double": data[at : at + place % 200]}.get(kind, piece)
        data = data[:at] + put + data[end:]
    return data


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


def read_config(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        found = resolve({}, {}, file).settings
    except ConfigError as error:
        faults = error.faults
    else:
        assert isinstance(found, Settings)
        return
    assert faults
    assert all(str(file) in fault for fault in faults), "a fault without its place"


def read_jobs(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        found = read_job_file(file)
    except BadJobFile as error:
        text = str(error)
    else:
        assert all(job.line >= 1 for job in found)
        return
    assert str(file) in text


@settings(max_examples=400)
@given(changes=CHANGES)
@example(changes=[("insert", 0, b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n")])
@example(changes=[("insert", 0, b"? [a, b]\n: c\n")])
@example(changes=[("insert", 0, b"{a: 1}: b\n")])
@example(changes=[("insert", 0, b"a: &a\n  b: *a\n")])
def test_t12_any_text_as_configuration_is_read_or_refused_with_its_place(
    file: Path, changes: list[tuple[str, int, bytes]]
) -> None:
    read_config(file, mutated(CONFIG, changes))


@settings(max_examples=800)
@given(changes=CHANGES)
def test_t12_any_text_as_a_file_of_jobs_is_read_or_refused_with_its_place(
    file: Path, changes: list[tuple[str, int, bytes]]
) -> None:
    read_jobs(file, mutated(JOBS, changes))


@settings(max_examples=200)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
def test_t12_nonsense_is_refused_or_means_nothing(file: Path, content: bytes) -> None:
    read_config(file, content)
    read_jobs(file, content)


@pytest.mark.soak
@settings(max_examples=20_000)
@given(changes=CHANGES)
def test_t12_twenty_thousand_configurations(file: Path, changes: list[tuple[str, int, bytes]]) -> None:
    read_config(file, mutated(CONFIG, changes))


@pytest.mark.soak
@settings(max_examples=100_000)
@given(changes=CHANGES)
def test_t12_a_hundred_thousand_files_of_jobs(file: Path, changes: list[tuple[str, int, bytes]]) -> None:
    read_jobs(file, mutated(JOBS, changes))
