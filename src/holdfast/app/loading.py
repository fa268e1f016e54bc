"""Finding an app by name, and the name of an app: `module:attribute`, as command line and child processes use it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from holdfast.errors import BadAppModule, UsageError

if TYPE_CHECKING:
    from holdfast.app.holdfast import Holdfast


def load_app(name: str) -> Holdfast:
    """Import `module:attribute` and return the Holdfast there. The current folder is searched first.

    Raises BadAppModule, which says what was found and what to do.
    """
    from holdfast.app.holdfast import Holdfast

    if not isinstance(name, str):
        raise BadAppModule(
            f"app: expected module:attribute as text, as in 'shop.tasks:app', found {type(name).__name__}. Name both."
        )
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise BadAppModule(f"app: expected module:attribute, as in shop.tasks:app, found {name!r}. Name both.")
    module = _import(module_name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadAppModule(_no_attribute(module, attribute))
        found = getattr(found, part)
    if not isinstance(found, Holdfast):
        hint = _hint(module) or "Write app = Holdfast(…)."
        raise BadAppModule(f"app: expected {name} to be a Holdfast, found {type(found).__name__}. {hint}")
    return found


def _import(module_name: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            raise BadAppModule(
                f"app: there is no module {missing!r} in {folder} or on sys.path. "
                "Check the spelling, or start in the folder that holds it."
            ) from error
        raise BadAppModule(_broken(module_name, error)) from error
    except (Exception, SystemExit) as error:
        raise BadAppModule(_broken(module_name, error)) from error


def _broken(module_name: str, error: BaseException) -> str:
    return (
        f"app: importing {module_name!r} failed with {type(error).__name__}: {error}. "
        f"Mend that first; `python -c 'import {module_name}'` shows where."
    )


def _no_attribute(module: Any, attribute: str) -> str:
    hint = _hint(module) or f"Write {attribute} = Holdfast(…) at its top level."
    return f"app: module {module.__name__!r} has no {attribute!r}. {hint}"


def _hint(module: Any) -> str:
    from holdfast.app.holdfast import Holdfast

    names = [name for name, value in vars(module).items() if isinstance(value, Holdfast)]
    return f"It has a Holdfast called {names[0]!r}: use {module.__name__}:{names[0]}." if names else ""


def find_name(app: object, module_names: tuple[str, ...], what: str) -> str:
    """Return `module:attribute` under which one of the modules holds `app`. Raises UsageError if none does.

    `what` says for what a child process is to find it.
    """
    if module_names[0] == "__main__":
        raise UsageError(
            f"{what}: a child process imports what it runs by module name, but this is in __main__. "
            "Move the app and its tasks into a module of its own and import it."
        )
    for module_name in module_names:
        for name, value in vars(sys.modules.get(module_name, sys)).items():
            if value is app and module_name != "__main__":
                return f"{module_name}:{name}"
    raise UsageError(
        f"{what}: a child process imports the app by module name, but no global of {' or '.join(module_names)} is this app. "
        "Bind it to a name at the top level of the module: app = Holdfast(…)."
    )
