"""What holds for the tree as a whole: the public names, cheap import, and the rules of the house."""

import ast
import fnmatch
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scripts.suites import ROOT, load

SOURCE: Final = ROOT / "src" / "holdfast"
FUNCTION_LINES_MAX: Final = 60
FILE_LINES_MAX: Final = 450

# What `import holdfast` must not load: drivers, frameworks and the heavy part of the standard library's neighbours.
LOADED_LATER: Final = (
    "aiosqlite", "asyncmy", "asyncpg", "chdb", "click", "clickhouse_connect", "cronsim", "django", "httpx",
    "hypothesis", "litestar", "opentelemetry", "prometheus_client", "psycopg", "pydantic", "pymysql", "pytest", "redis",
    "rich", "ruamel", "sqlalchemy", "uvicorn", "uvloop",
)  # fmt: skip

# Written in parts, so that this file does not find itself.
FORBIDDEN: Final = (
    re.compile("/" + "work/"),
    re.compile("/tmp/" + "w/"),
    re.compile("/root/" + r"\."),
    re.compile(r"/home/" + r"\w+/"),
    re.compile("/opt/" + "(pypi|wheels)"),
    re.compile("index" + r"[-_]url"),
    re.compile("files\\.python" + "hosted|registry\\.npm" + "js"),
)


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of these kinds in the package, with its file."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield name_of(path), node


def committed() -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode != 0:  # no repository: a copy or an unpacked sdist
        answer_paths = [path for folder in ("src", "tests", "scripts", "docs") for path in (ROOT / folder).rglob("*")]
        return [path for path in answer_paths if path.is_file() and "__pycache__" not in path.parts]
    return [ROOT / name for name in answer.stdout.splitlines() if (ROOT / name).is_file()]


def test_the_public_names_are_exactly_those_agreed() -> None:
    if not (SOURCE / "app.py").exists() and not (SOURCE / "app").exists():
        pytest.skip("the package has no public names yet")
    holdfast = importlib.import_module("holdfast")
    agreed = (ROOT / "tests" / "public_names.txt").read_text().split()
    assert sorted(holdfast.__all__) == sorted(agreed), "a change of the API: change tests/public_names.txt with it"
    assert [name for name in agreed if not hasattr(holdfast, name)] == []


def test_importing_the_package_loads_no_driver() -> None:
    program = "import holdfast, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(set(loaded) & set(LOADED_LATER)) == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()


def test_no_function_grows_past_the_limit() -> None:
    long = [
        f"{file}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for file, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_file_grows_past_the_limit() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: count for name, count in lines.items() if count > FILE_LINES_MAX} == {}


def is_swallowing(handler: ast.ExceptHandler) -> bool:
    """Whether `handler` catches everything, or catches something wide and does nothing with it."""
    if handler.type is None:
        return True
    wide = {"Exception", "BaseException"} & {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)}
    idle = all(isinstance(s, (ast.Pass, ast.Continue)) or is_ellipsis(s) for s in handler.body)
    return bool(wide) and idle


def is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def test_no_exception_is_swallowed() -> None:
    found = [
        f"{file}:{node.lineno}"
        for file, node in nodes(ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler) and is_swallowing(node)
    ]
    # `contextlib.suppress(Exception)` is the same thing in other words.
    found += [
        f"{file}:{node.lineno}"
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(contextlib\.)?suppress\((Base)?Exception\)", ast.unparse(node))
    ]
    assert found == []


def test_the_core_knows_no_clock_no_chance_and_no_disk() -> None:
    forbidden = {
        "time",
        "random",
        "secrets",
        "uuid",
        "os",
        "pathlib",
        "asyncio",
        "threading",
        "socket",
        "io",
        "logging",
    }
    called = re.compile(r"(datetime|date)\.(now|utcnow|today)$|^open$")
    found = []
    for path in sorted((SOURCE / "job").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = {
                alias.name.partition(".")[0] for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)
            }
            if isinstance(node, ast.ImportFrom):
                imported = {(node.module or "").partition(".")[0]}
            if isinstance(node, (ast.Import, ast.ImportFrom)) and imported & forbidden:
                found.append(f"{name_of(path)}:{node.lineno} imports {', '.join(sorted(imported & forbidden))}")
            if isinstance(node, ast.Call) and called.search(ast.unparse(node.func)):
                found.append(f"{name_of(path)}:{node.lineno} calls {ast.unparse(node.func)}")
    assert found == []


def test_only_connect_chooses_adapters() -> None:
    # The layers of pyproject.toml keep the rooms below from importing adapters; this keeps those above from it.
    adapter = re.compile(r"holdfast\.(stores|histories|routers)(\.|$)")
    at_home = re.compile(r"src/holdfast/(stores/|histories/|routers/|connect)")
    found = []
    for file, node in nodes(ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        found += [f"{file} imports {name}" for name in names if adapter.match(name) and not at_home.match(file)]
    assert found == []


def test_nothing_committed_names_a_machine_or_an_index() -> None:
    found = []
    for path in committed():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # pictures and the like
        found += [f"{name_of(path)}: {hit[0]}" for pattern in FORBIDDEN for hit in [pattern.search(text)] if hit]
    assert found == []


def test_each_test_file_stands_in_exactly_one_suite() -> None:
    places = {suite.name: suite.paths for suite in load()}
    wrong = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = name_of(path)
        owners = [suite for suite, paths in places.items() if any(name == p or name.startswith(p + "/") for p in paths)]
        if len(owners) != 1:
            wrong[name] = owners
    assert wrong == {}, "give it a place in scripts/suites.toml"


def test_each_path_of_a_suite_exists() -> None:
    assert [path for suite in load() for path in suite.paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "extra", ["node", "sqlite", "postgres", "mysql", "redis", "clickhouse", "otel", "uvloop", "dev"]
)
def test_the_extra_is_declared(extra: str) -> None:
    declared = re.search(rf"^{re.escape(extra)} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None


def test_pins_name_each_package_once_and_exactly() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not fnmatch.fnmatch(line, "?*==?*")] == []
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names))
