"""T12 of the test plan, messages of the API: any body, query or name is served or refused, and nothing breaks.

Bodies are made from the types that the routes declare, so that they come far, and then one thing in them is spoilt.
"""

import asyncio
import enum
import json
import types
import typing
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.hub.api import API_ROUTES, make_api
from holdfast.hub.parts import Parts
from holdfast.hub.routing import Route
from holdfast.job.commands import Define
from holdfast.job.model import Job
from holdfast.stores.memory import MemoryStore
from tests.node.remote import info

ROUTES: Final = [route for route in API_ROUTES if route.method != "GET" or route.query is not None]
#: What a client of another kind may send, as JSON text.
SPOILT: Final = st.sampled_from(
    [
        "null", "true", "-1", "0", "1.5", "1e308", "1e400", "-0", "9" * 30, "1" + "0" * 400, '""', '"x"', '"\\u0000"',
        '"\\ud800"', '"' + "x" * 300 + '"', '"🙂"', "[]", "{}", "[null]", '{"a": 1}', "[" * 200 + "]" * 200, "NaN", '"5m"',
        '"2030-01-01"', '"2030-01-01T00:00:00Z"', '{"type": "x"}', "[[[1]]]",
    ]
)  # fmt: skip
TEXTS: Final = st.one_of(
    st.sampled_from(["a", "mail.welcome", "default", "j1", "x" * 200, "", "ü", "a/b"]), st.text(max_size=8)
)


def made_from(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values that fit a type, mostly."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return struct_of(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from([member.value for member in kind])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([made_from(one) for one in arguments])
    if origin in (tuple, list, frozenset) or kind in (tuple, list):
        return st.lists(made_from(arguments[0]) if arguments else st.none(), max_size=3)
    if origin is dict or kind is dict:
        return st.dictionaries(TEXTS, made_from(arguments[1]) if arguments else st.integers(), max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is typing.Annotated:
        return made_from(arguments[0])
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXTS,
        int: st.integers(-(2**65), 2**65) | st.integers(0, 5),
        float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 100),
        bool: st.booleans(),
        bytes: st.sampled_from(["", "e30=", "not base64!"]),
        types.NoneType: st.none(),
    }
    return plain.get(kind, st.sampled_from([None, {}, {"a": [1, "x", None]}, [], "text", 7]))


def struct_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    config = kind.__struct_config__
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        given_ = made_from(field.type)
        (required if field.required else optional)[field.encode_name] = given_
    if config.tag is not None:
        required[config.tag_field or "type"] = st.just(config.tag)
    return st.fixed_dictionaries(required, optional=optional)


def spoil(value: Any, draw: st.DrawFn) -> str:
    """Return the value as JSON, one place of it replaced."""
    text = json.dumps(value)
    places = [at for at, sign in enumerate(text) if sign in ":[,"]
    if not places or not draw(st.booleans()):
        return text
    at = draw(st.sampled_from(places)) + 1
    end = min([found for sign in ",]}" if (found := text.find(sign, at)) >= 0], default=len(text))
    return text[:at] + draw(SPOILT) + text[end:]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Route, str, str, bytes]:
    """A route, its path, a query and a body."""
    route: Route = draw(st.sampled_from(ROUTES))
    name = draw(st.sampled_from(["j1", "none", "a", "default", "%00", "%ff", "..%2f..", "x" * 300, "%F0%9F%99%82"]))
    path = route.path.replace("{id}", name).replace("{name}", name)
    body = b"" if route.body is None else spoil(draw(made_from(route.body)), draw).encode("utf-8", "surrogatepass")
    query = "&".join(
        f"{field.encode_name}={draw(st.sampled_from(['1', '-1', 'x', '', '1e400', '%00', '9' * 30, 'queued', 'true']))}"
        for field in (msgspec.structs.fields(route.query) if route.query is not None else ())
        if draw(st.booleans())
    )
    return route, path, query, body


class Impatient(MemoryStore):
    """A store that never waits: a request may ask it to for minutes."""

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        return False

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        return await super().finished(ids, 0.0)


class Current:
    """The store of the request that is being served. Making the API anew for each would take most of the time."""

    store: MemoryStore

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


CURRENT: Final = Current()
APP: Final = make_api(Parts(store=cast("Any", CURRENT), new_id=IdMaker(ManualClock().now), node=info))


class Hub:
    """The API on a fresh memory store, called without a server."""

    async def ask(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        store = CURRENT.store = Impatient(clock=ManualClock())
        await store.open()
        await store.define([Define(alias="a"), Define(alias="mail.welcome", queue="mail")])
        answers: list[dict[str, Any]] = []
        sent = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(sent, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        if body:
            headers.append((b"content-length", str(len(body)).encode()))
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path_of(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": headers, "client": ("localhost", 1), "server": ("localhost", 80), "state": {},
        }  # fmt: skip
        async with asyncio.timeout(60):
            await APP(scope, receive, send)
        await store.close()
        text = b"".join(message.get("body", b"") for message in answers)
        return int(answers[0]["status"]), text


def path_of(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


def assert_served_or_refused(request: tuple[Route, str, str, bytes]) -> None:
    route, path, query, body = request
    status, answer = asyncio.run(Hub().ask(route.method, "/api/v1" + path, query, body))
    assert status != 500, (route.method, path, query, body, answer)
    if status >= 400:
        assert set(json.loads(answer)) >= {"status", "title"}, answer


@settings(max_examples=400)
@given(request=requests())
def test_t12_whatever_is_sent_to_the_api_is_served_or_refused_with_a_reason(request: Any) -> None:
    assert_served_or_refused(request)


@pytest.mark.soak
@settings(max_examples=20_000)
@given(request=requests())
def test_t12_twenty_thousand_requests(request: Any) -> None:
    assert_served_or_refused(request)
