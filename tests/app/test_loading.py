"""`module:attribute` finds an app, or says what to do."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Holdfast, load_app
from holdfast.app.loading import find_name
from holdfast.errors import BadAppModule, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_an_app_is_found_in_the_current_folder(folder: Path) -> None:
    write(folder, "shop_good", "from holdfast import Holdfast\napp = Holdfast()\nclass box: inner = app\n")
    assert isinstance(load_app("shop_good:app"), Holdfast)
    assert load_app("shop_good:box.inner") is load_app("shop_good:app")


@pytest.mark.parametrize("name", ["", "shop", ":app", "shop:", "shop.app"])
def test_a_name_needs_module_and_attribute(folder: Path, name: str) -> None:
    with pytest.raises(BadAppModule, match=r"expected module:attribute, as in shop.tasks:app, found .* Name both"):
        load_app(name)


def test_a_module_that_does_not_exist_says_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(
        BadAppModule, match=rf"there is no module 'shop_none' in {folder} .* Check the spelling, or start in"
    ):
        load_app("shop_none:app")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_does_not_import_says_why(folder: Path, text: str, words: str) -> None:
    write(folder, "shop_broken", text)
    with pytest.raises(BadAppModule) as caught:
        load_app("shop_broken:app")
    assert f"importing 'shop_broken' failed with {words}" in str(caught.value)
    assert "`python -c 'import shop_broken'` shows where" in str(caught.value)
    sys.modules.pop("shop_broken", None)


def test_a_module_without_the_attribute_names_the_app_it_has(folder: Path) -> None:
    write(folder, "shop_other", "from holdfast import Holdfast\ntasks = Holdfast()\n")
    with pytest.raises(
        BadAppModule, match=r"'shop_other' has no 'app'. It has a Holdfast called 'tasks': use shop_other:tasks"
    ):
        load_app("shop_other:app")
    write(folder, "shop_empty", "")
    with pytest.raises(BadAppModule, match=r"has no 'app'. Write app = Holdfast\(…\) at its top level"):
        load_app("shop_empty:app")


def test_an_attribute_that_is_no_app_says_what_it_is(folder: Path) -> None:
    write(folder, "shop_flask", "app = dict()\n")
    with pytest.raises(BadAppModule, match="expected shop_flask:app to be a Holdfast, found dict"):
        load_app("shop_flask:app")


def test_a_task_is_imported_by_the_module_that_defines_it(folder: Path) -> None:
    write(folder, "shop_app", "from holdfast import Holdfast\napp = Holdfast()\n")
    write(
        folder,
        "shop_jobs",
        "from shop_app import app as queue\n@queue.task('heavy', executor='process')\ndef heavy() -> None: ...\n",
    )
    app = load_app("shop_app:app")
    load_app("shop_jobs:queue")
    task = app.tasks.get("heavy")
    assert task is not None
    assert app.host.import_name(task) == "shop_jobs:queue"


def test_a_name_that_is_no_text_is_told() -> None:
    with pytest.raises(BadAppModule, match=r"expected module:attribute as text, .*found int"):
        load_app(5)  # type: ignore[arg-type]


def test_an_app_without_a_name_can_not_be_found_by_a_child(app: Holdfast) -> None:
    with pytest.raises(
        UsageError, match=r"no global of .*test_loading is this app. Bind it to a name at the top level"
    ):
        find_name(app, (__name__,), "task 'x'")
    with pytest.raises(UsageError, match=r"this is in __main__. Move the app and its tasks into a module"):
        find_name(app, ("__main__",), "task 'x'")
