"""Running a task's function from the command line, in this process: nothing is stored, no worker is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import BadArguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.app.holdfast import Holdfast
    from holdfast.job.model import Job
    from holdfast.task import Task


def read_words(words: Sequence[str]) -> dict[str, list[str | bool]]:
    """Return the values of `--key=value`, `--key value` and `--flag`, by key. Raises BadArguments for anything else.

    >>> read_words(["--user-id=42", "--lang", "de", "--force"])
    {'user_id': ['42'], 'lang': ['de'], 'force': [True]}
    """
    found: dict[str, list[str | bool]] = {}
    rest = [word for word in words if word != "--"]
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise BadArguments(f"expected arguments as --name=value, --name value or --flag, found {word!r:.80}.")
        given: str | bool = value
        if not equals:
            given = rest.pop(0) if rest and not rest[0].startswith("--") else True
        found.setdefault(key.replace("-", "_"), []).append(given)
    return found


def arguments_of(task: Task[Any, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that words mean for a task: texts where it takes text, else JSON. A repeated key is a list."""
    kinds = _kinds(task)
    arguments: dict[str, Any] = {}
    for key, values in read_words(words).items():
        read = [_value(value, kinds.get(key, frozenset())) for value in values]
        arguments[key] = read[0] if len(read) == 1 else read
    return arguments


def _value(given: str | bool, kinds: frozenset[str]) -> Any:
    if given is True or kinds == {"string"}:
        return given
    try:
        value: Any = msgspec.json.decode(str(given))
    except msgspec.DecodeError:
        return given  # a text; the task's signature says whether it may be one
    # A text that looks like a number, where both are taken, stays what was typed.
    return given if "string" in kinds and not isinstance(value, list | dict) and value is not None else value


def _kinds(task: Task[Any, Any]) -> dict[str, frozenset[str]]:
    """Return which JSON types each argument takes; an empty set: not known."""
    document: dict[str, Any] = msgspec.json.decode(task.arguments.schema() or b"{}")
    name = str(document.get("$ref", "")).rpartition("/")[2]
    schema = document.get("$defs", {}).get(name, document)
    return {key: _types(one) for key, one in schema.get("properties", {}).items()}


def _types(schema: dict[str, Any]) -> frozenset[str]:
    if "anyOf" in schema:
        return frozenset().union(*map(_types, schema["anyOf"]))
    found = schema.get("type", ())
    return frozenset({found} if isinstance(found, str) else found)


async def run_handler(app: Holdfast, task: Task[Any, Any], words: Sequence[str]) -> Job:
    """Run a task once, with its middleware and the app's lifespan; return the job as it ended. Raises what it raises."""
    job = task.job_from(arguments_of(task, words))
    async with app.lifespan_context() as state:
        with app.testing() as inline:
            inline.state = state
            return (await inline.run(job)).job


def log_lines(job: Job) -> Iterable[tuple[float, str, str]]:
    """Return what the handler logged: time, level, text."""
    lines: list[tuple[float, str, str]] = msgspec.json.decode(job.last.log or b"[]") if job.last is not None else []
    return lines
