"""T60: nothing that comes from outside is code. A look at the source, and hostile values where values are stored and read."""

import ast
import functools
import json
import logging
import pickle
import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from holdfast.hub.scopes import Scope
from holdfast.telemetry.logs import JsonFormatter
from tests.hub.site import Site
from tests.sql.sqlite.harness import SqliteHarness

SOURCE: Final = Path(__file__).parents[2] / "src" / "holdfast"
#: What turns data into code or objects of any kind.
MODULES: Final = {"pickle", "marshal", "shelve", "dill", "jsonpickle", "cloudpickle", "yaml", "xmlrpc"}
CALLS: Final = {"eval", "exec", "compile", "__import__"}
#: Where a module is imported by its name: the app that the command line names, and tables of ours (commands, adapters).
IMPORTERS: Final = {
    "app/loading.py",
    "cli/commands/ddl.py",
    "cli/main.py",
    "connect.py",
    "sticky/watch.py",
    "table/processes.py",
    "telemetry/otel.py",
}


@functools.cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(SOURCE)), ast.parse(path.read_text())) for path in SOURCE.rglob("*.py")]


def test_t60_no_module_that_makes_objects_of_data_is_imported() -> None:
    found = []
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES]
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
                found.append((name, node.module or ""))
    assert found == []


def test_t60_no_text_is_run() -> None:
    found = [
        (name, node.func.id, node.lineno)
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
    ]
    assert found == []


def test_t60_modules_are_imported_by_name_in_few_places() -> None:
    found = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
    }
    assert found <= IMPORTERS, found - IMPORTERS


def test_t60_yaml_is_read_as_plain_data() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("YAML"):
                assert any(
                    word.arg == "typ" and ast.literal_eval(word.value) in ("safe", "rt") for word in node.keywords
                ), name


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a stored value was run",))


HOSTILE: Final = [
    pickle.dumps(Bomb(), 0).decode("latin-1"),
    "__import__('os').system('id')",
    "{{config}}",
    "!!python/object/apply:os.system ['id']",
    {"__class__": "os.system", "__reduce__": ["os.system", ["id"]]},
    {"py/object": "os.system", "$type": "System.Diagnostics.Process", "__proto__": {"admin": True}},
    {"constructor": {"prototype": {"x": 1}}},
    [["cposix\nsystem\n(S'id'\ntR."]],
]


async def test_t60_hostile_values_are_stored_shown_and_given_back_as_they_are(every_site: Site) -> None:
    site = every_site
    await site.define("t")
    jobs = [{"task": "t", "payload": {"v": value}, "headers": {"h": value}} for value in HOSTILE]
    made = await site.do("POST", "/jobs", jobs)
    site.token = site.make("reader", Scope.READ_PAYLOAD)
    for answer, value in zip(made, HOSTILE, strict=True):
        job = (await site.get(f"/jobs/{answer['id']}"))["job"]
        assert (job["payload"], job["headers"]) == ({"v": value}, {"h": value})
    assert (await site.send("GET", "//")).status_code == 200


async def test_t60_what_somebody_else_wrote_into_a_row_is_named_and_runs_nothing(tmp_path: Path) -> None:
    rig = SqliteHarness()
    site = Site(rig, tmp_path)
    await site.open()
    try:
        await site.define("t")
        ids = [(await site.do("POST", "/jobs", {"task": "t"}))["id"] for _ in range(6)]
        for claim in await rig.claim(3):
            await rig.settle(claim)
        written = sqlite3.connect(rig.file)
        hostile = [pickle.dumps(Bomb(), protocol) for protocol in range(6)]
        hostile += [b"", b"\xff" * 50, b"\x81" * 5_000, b"!!python/object/apply:os.system", bytes(range(256))]
        for table, job_id, columns in (
            ("job", ids[5], ("rest", "policy")),
            ("done", ids[0], ("rest", "policy", "tail")),
        ):
            for column in columns:
                for value in hostile:
                    written.execute(f"UPDATE holdfast_{table} SET {column} = ? WHERE id = ?", (value, job_id))
                    written.commit()
                    for path in (f"/jobs/{job_id}", "/jobs"):
                        status, problem = await site.ask("GET", path)
                        assert status == 200, problem
                    assert (await site.send("GET", "//")).status_code == 200
                    assert (await site.send("GET", f"/jobs/{ids[1]}")).status_code == 200
                written.execute(f"UPDATE holdfast_{table} SET {column} = NULL WHERE id = ?", (job_id,))
                written.commit()
        written.close()
        assert len((await site.get("/jobs"))["items"]) == 6
        assert len(await rig.claim(5)) == 3
    finally:
        await site.close()


#: What would begin a line of its own in a log, steer a terminal, or turn a text around.
FORGED: Final = [
    "x\nadmin logged in",
    "x\r\n{}",
    "\x1b[2J\x1b[31m",
    "\u202etxt",
    "\u2028line",
    "\x00",
    "%s%n",
    "\ud800",
]


class Breaks(logging.Handler):
    """Keeps each record as the JSON log and the log for people would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(JsonFormatter().format(record))


@pytest.mark.parametrize("text", FORGED, ids=ascii)
async def test_t58_what_broke_is_one_line_of_the_log_and_a_short_word_to_the_caller(
    site: Site, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> Any:
        raise RuntimeError(f"secret {text}")

    monkeypatch.setattr(site.store, "stats", broken)
    handler = Breaks()
    logger = logging.getLogger("holdfast.hub")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        query = quote(text.encode("utf-8", "surrogatepass"))
        answer = await site.send("GET", f"/queues/{query}", headers={"x-request-id": "my-request"})
        status = await site.send("GET", "/stats", headers={"x-request-id": "my-request"})
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert answer.status_code in (404, 422)
    assert (status.status_code, "secret" in status.text, "my-request" in status.text) == (500, False, True)
    [line] = handler.lines
    assert json.loads(line)["level"] == "error"
    assert not set(line) & {"\n", "\r", "\x1b", "\u2028", "\x00"}
