"""Every setting: what it is, its unit, its default and its extremes, in one table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from holdfast.durations import seconds
from holdfast.errors import BadTime, ConfigError
from holdfast.job.ids import check_name

SERIAL: Final = "serial"
WORKERS_MAX: Final = 100_000
Slots = int | Literal["serial"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a node and of the commands that talk to it. Durations are seconds."""

    app: str | None
    url: str | None
    data: Path
    worker_count: int
    queues: Mapping[str, Slots]
    task_timeout: float | None
    max_retry: int
    snapshot_interval: float
    lease: float
    grace: float
    host: str
    port: int
    http: bool
    hosts: tuple[str, ...]
    base_path: str
    history: str | None
    rate_limit: float
    api_token: str | None
    metrics_host: str
    metrics_port: int
    log_level: str
    log_format: str
    wal_path: Path | None
    snapshot_path: Path | None


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One setting. `read` turns what was written into its value and raises ValueError that says what is expected.

    A value with parts raises Faults, which tells all of its faults.
    """

    name: str
    default: Any
    read: Callable[[Any], Any]
    about: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"HOLDFAST_{self.name.upper()}"


class Faults(ValueError):
    """All faults of a value that has parts; each says what was found."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


# --- readers: what is written becomes a value ------------------------------------------------------------------------

_TRUE: Final = {"true", "yes", "on", "1"}
_FALSE: Final = {"false", "no", "off", "0"}


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        text = str(value).strip().replace("_", "")
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def _duration(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        value = float(value)  # variables and flags are texts; a bare number means seconds, as it does in a file
    try:
        return seconds(value, "duration", positive=True)
    except BadTime as error:
        raise ValueError('expected seconds or a duration such as "500ms", "3s", "5m"') from error


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def optional(value: Any) -> Any:
        return None if value is None or str(value).strip().lower() in ("", "none", "null") else read(value)

    return optional


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise ValueError("expected text")
    return value.strip()


def _path(value: Any) -> Path:
    return Path(_text(value)).expanduser()


def _rate(value: Any) -> float:
    return float(_integer(1, 1_000_000)(value))


def _base_path(value: Any) -> str:
    text = str(value).strip().rstrip("/")
    if text and not re.fullmatch(r"(/[\w.~-]+)+", text, re.ASCII):
        raise ValueError("expected a path such as /holdfast")
    return text


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return text in _TRUE


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return text

    return read


def _words(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("expected a list of texts, or one text with commas between")
    return tuple(part.strip() for part in parts if part.strip())


def read_queues(value: Any) -> dict[str, Slots]:
    """Return queues from a mapping, or from texts such as "mail=50, ledger=serial". Raises Faults, which tells all."""
    pairs = value.items() if isinstance(value, Mapping) else [_pair(part) for part in _words(value)]
    found: dict[str, Slots] = {}
    faults: list[str] = []
    for name, slots in pairs:
        try:
            found[_queue(name)] = _slots(name, slots)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise Faults(faults)
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, slots = text.rpartition("=")
    return (name, slots) if equals else (text, "")


def _queue(name: Any) -> str:
    try:
        return check_name(name, "queues")
    except ConfigError:
        raise ValueError(f"expected names of queues, found {name!r}") from None


def _slots(name: Any, value: Any) -> Slots:
    text = str(value).strip().lower()
    if text == SERIAL:
        return SERIAL
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise ValueError(
            f'{name}: expected a number of jobs at once (1 to {WORKERS_MAX:,}) or "serial", found {value!r}'
        )
    return int(text)


_PORT: Final = _integer(0, 65_535)

FIELDS: Final[tuple[Field, ...]] = (
    Field(name="app", default=None, read=_optional(_text), about="module:attribute of the app whose tasks are run"),
    Field(name="url", default=None, read=_optional(_text), about="store URL; none: the journal in `data`", secret=True),
    Field(name="data", default=Path("data"), read=_path, about="folder of the journal, socket and token"),
    Field(name="worker_count", default=8, read=_integer(1, WORKERS_MAX), about="jobs that run at once"),
    Field(
        name="queues",
        default={},
        read=read_queues,
        about='queue -> jobs at once, or "serial"; none: all queues of the tasks, sharing worker_count',
    ),
    Field(
        name="task_timeout",
        default=None,
        read=_optional(_duration),
        about="time limit of attempts whose task names none; none: no limit",
    ),
    Field(
        name="max_retry",
        default=5,
        read=_integer(1, 10_000),
        about="attempts of jobs whose task names no number (1: never again)",
    ),
    Field(
        name="snapshot_interval",
        default=2.0,
        read=_duration,
        about="least time between two snapshots; they are made when the log has grown enough",
    ),
    Field(name="lease", default=30.0, read=_duration, about="how long a claim lives without a heartbeat"),
    Field(name="grace", default=30.0, read=_duration, about="how long a stopping node waits for its handlers"),
    Field(name="host", default="127.0.0.1", read=_text, about="address of the HTTP API"),
    Field(name="port", default=7420, read=_PORT, about="port of the HTTP API; 0 picks a free one"),
    Field(name="http", default=True, read=_boolean, about="serve the HTTP API on host and port beside the socket"),
    Field(name="hosts", default=(), read=_words, about="more names that the API is reached by"),
    Field(name="base_path", default="", read=_base_path, about="where a proxy serves the API and its pages: /holdfast"),
    Field(
        name="history",
        default=None,
        read=_optional(_text),
        about="URL of the history that the API shows (clickhouse://…); none: the store's own",
        secret=True,
    ),
    Field(
        name="rate_limit",
        default=10_000.0,
        read=_rate,
        about="requests a second that one token, person or address may send over TCP; twice as many at once",
    ),
    Field(
        name="api_token",
        default=None,
        read=_optional(_text),
        about="a token of your own, beside the new one of each start; needed for other addresses than loopback",
        secret=True,
    ),
    Field(name="metrics_host", default="127.0.0.1", read=_text, about="address of the metrics"),
    Field(
        name="metrics_port",
        default=9090,
        read=_PORT,
        about="port of the metrics; 0: only /metrics of the API. A worker serves them only when it is set",
    ),
    Field(
        name="log_level",
        default="info",
        read=_one_of("debug", "info", "warning", "error"),
        about="what is logged",
    ),
    Field(
        name="log_format",
        default="auto",
        read=_one_of("auto", "human", "json"),
        about="auto: human on a terminal, JSON otherwise",
    ),
    Field(
        name="wal_path",
        default=None,
        read=_optional(_path),
        about="older name: the log's place; its folder becomes `data`",
    ),
    Field(
        name="snapshot_path",
        default=None,
        read=_optional(_path),
        about="older name: the snapshot's place; must be in the same folder",
    ),
)
BY_NAME: Final[Mapping[str, Field]] = {field.name: field for field in FIELDS}
#: Variables that are no settings of the file.
OTHER_VARIABLES: Final = frozenset({"HOLDFAST_CONFIG", "HOLDFAST_POD_INDEX", "HOLDFAST_ROUTER", "HOLDFAST_NAMESPACE"})
