"""The API as an ASGI application: routes in, Litestar out. It is a value; whoever serves it puts a `Door` before it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from litestar import HttpMethod, Litestar, Request, Response
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from holdfast.errors import HoldfastError
from holdfast.hub import openapi, pages
from holdfast.hub.door import BASE_PATH, PRINCIPAL
from holdfast.hub.intake import Intake
from holdfast.hub.redaction import redacted
from holdfast.hub.refusals import Refusal
from holdfast.hub.requests import REQUEST_ID
from holdfast.hub.routes import aliases, fleet, fleet_aliases, history, jobs, links, people, queues, store, tasks
from holdfast.hub.routes.jobs import Unprocessable
from holdfast.hub.routing import BATCH_BODY_MAX, EVENTS, JSON, Call, Route
from holdfast.hub.scopes import OWNER, Principal, Scope
from holdfast.wire.problems import MEDIA_TYPE, Problem, field_of, http_problem, problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from holdfast.hub.parts import Parts

    AnyRequest = Request[Any, Any, Any]
    Handle = Callable[[AnyRequest], Awaitable[Response[Any]]]

API_ROUTES: Final[tuple[Route, ...]] = (
    *jobs.ROUTES,
    *queues.ROUTES,
    *tasks.ROUTES,
    *fleet.ROUTES,
    *history.ROUTES,
    *people.ROUTES,
    *store.ROUTES,
    *links.ROUTES,
    *aliases.ROUTES,
    *fleet_aliases.ROUTES,
)
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Answers of at least this many bytes are packed for those who take it; below it packing costs more than it saves.
GZIP_LEAST: Final = 2_048
#: How long a look at the store may take before the node counts as not ready, in seconds.
_READY_LIMIT: Final = 2.0
_encode: Final = msgspec.json.Encoder().encode
logger = logging.getLogger("holdfast.hub")


def make_api(parts: Parts) -> Litestar:
    """Return the application that serves `parts`."""
    parts = msgspec.structs.replace(parts, intake=Intake(parts.store, parts.new_id, parts.validate))
    handlers = [*_handlers(parts), *_plain_handlers(parts), *pages.handlers(parts)]
    return Litestar(
        route_handlers=handlers,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BATCH_BODY_MAX,
        exception_handlers={
            HTTPException: _refuse_http,
            HoldfastError: _refuse,
            Refusal: _refuse_ours,
            Unprocessable: _refuse_unprocessable,
            msgspec.DecodeError: _refuse_unreadable,
            msgspec.ValidationError: _refuse_unexpected,
            Exception: _report,
        },
    )


# --- routes --------------------------------------------------------------------------------------------------------


def _handlers(parts: Parts) -> Iterator[HTTPRouteHandler]:
    """Return the Litestar handlers of all routes; those that share an address share one, and differ in its tail."""
    places: dict[tuple[str, str], dict[str, Route]] = {}
    for entry in API_ROUTES:
        path, tail = _place(entry)
        places.setdefault((entry.method, path), {})[tail] = entry
    for (method, path), entries in places.items():
        status = entries[""].status if "" in entries else 200
        body_max = max(entry.body_max for entry in entries.values())
        yield _registered(path, method, _by_tail(entries, parts), status, body_max)


def _place(entry: Route) -> tuple[str, str]:
    """Return the address of a route as Litestar writes it, and the tail behind a name that may hold slashes."""
    path = openapi.BASE + entry.path
    if "{id}" in path and entry.alias_of:  # ids of the older system hold no slash
        return path.replace("{id}", "{rest:str}"), ""
    front, name, tail = path.replace("{id}", "{name}").partition("{name}")
    return (f"{front}{{rest:path}}", tail) if name else (path, "")


def _by_tail(entries: dict[str, Route], parts: Parts) -> Handle:
    """Return what answers for all routes of one address: by the tail of the name, which is taken off."""
    answers = {tail: _responder(entry, parts) for tail, entry in entries.items()}
    tails = sorted(filter(None, answers), key=len, reverse=True)

    async def handle(request: AnyRequest) -> Response[Any]:
        rest = _rest(request)
        tail = next((one for one in tails if rest.endswith(one) and len(rest) > len(one)), "")
        if tail not in answers:
            raise NotFoundException
        return await answers[tail](request, rest.removesuffix(tail))

    return handle


def _responder(entry: Route, parts: Parts) -> Callable[[AnyRequest, str], Awaitable[Response[Any]]]:
    """Return what answers a request of a route: decode, call, encode."""
    read_body, read_query = _body_reader(entry), _query_reader(entry)

    async def respond(request: AnyRequest, rest: str) -> Response[Any]:
        # Without a door before it, as in tests of the routes alone, everybody may do everything.
        principal = cast("Principal", request.scope.get(PRINCIPAL, OWNER))
        if entry.scope not in principal.scopes:
            raise _out_of_scope(principal, entry)
        body = _signed(await read_body(request), principal)
        base = cast("str", request.scope.get(BASE_PATH, ""))
        call = Call(parts, rest, read_query(request), body, principal, request.headers, base)
        if entry.media == EVENTS:
            return await _stream(cast("AsyncIterator[str]", entry.handle(call)))
        answering = cast("Awaitable[Any]", entry.handle(call))
        answer = await (_while_there(request, answering) if entry.held else answering)
        if not (entry.shows_all or call.sees_payload):
            answer = redacted(answer)
        return _packed(request, _encode(answer), entry.status)

    return respond


async def _while_there(request: AnyRequest, answering: Awaitable[Any]) -> Any:
    """Return an answer, which is given up when the caller goes away."""
    answer, leaving = asyncio.ensure_future(answering), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([answer, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not answer.done():
            answer.cancel()
        await asyncio.wait([answer, leaving])
    if answer.cancelled():
        raise Refusal(503, "expected a caller who waits for the answer, found that the connection was closed.")
    return answer.result()


async def _gone(request: AnyRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _stream(texts: AsyncIterator[str]) -> Response[Any]:
    """Begin to tell events; what refuses to begin is raised here, while it still can be a refusal."""
    first = await anext(texts)

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for text in texts:
            if text:
                yield text

    return Stream(all_of_them(), media_type=EVENTS, headers={"x-accel-buffering": "no"})


def _packed(request: AnyRequest, content: bytes, status: int) -> Response[bytes]:
    """Return an answer: nothing but 304 for what the caller has already, packed where that pays and he takes it."""
    headers = {"vary": "accept-encoding"}
    if request.method == "GET":
        headers["etag"] = tag = f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        if tag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=304, headers=headers, media_type=JSON)
    if len(content) >= GZIP_LEAST and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, compresslevel=1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(content, status_code=status, headers=headers, media_type=JSON)


def _registered(path: str, method: str, handle: Any, status: int = 200, body_max: int = 0) -> HTTPRouteHandler:
    # Litestar reads the annotations of a handler, which here are those of this module.
    handle.__annotations__ = {"request": Request[Any, Any, Any], "return": Response[Any]}
    handler: HTTPRouteHandler = HTTPRouteHandler(
        path, http_method=HttpMethod(method), status_code=status, request_max_body_size=body_max or BATCH_BODY_MAX
    )(handle)
    return handler


def _out_of_scope(principal: Principal, entry: Route) -> Refusal:
    found = ", ".join(scope for scope in Scope if scope in principal.scopes)
    return Refusal(
        403,
        f"expected a token with scope {entry.scope}, found {found}. To make one: holdfast tokens make NAME {entry.scope}",
    )


def _signed(body: Any, principal: Principal) -> Any:
    """The records name the holder of the token, whatever the body says of itself."""
    if principal.name and hasattr(body, "who"):
        return msgspec.structs.replace(body, who=principal.name)
    return body


def _rest(request: AnyRequest) -> str:
    return str(request.path_params.get("rest", "")).removeprefix("/")


def _body_reader(entry: Route) -> Callable[[AnyRequest], Awaitable[Any]]:
    decoder = msgspec.json.Decoder(entry.body) if entry.body is not None else None

    async def read(request: AnyRequest) -> Any:
        if decoder is None:
            return None
        content = await request.body() or b"null"
        try:
            return decoder.decode(content)
        except RecursionError:
            raise Refusal(
                422, "body: expected at most 100 levels of nesting, found more. Flatten it.", field="body"
            ) from None

    return read


def _query_reader(entry: Route) -> Callable[[AnyRequest], Any]:
    if entry.query is None:
        return _refuse_query
    many = {field.name for field in msgspec.structs.fields(entry.query) if field.default == ()}

    def read(request: AnyRequest) -> Any:
        given: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in many:
                given.setdefault(name, []).extend(value.split(","))
            else:
                given[name] = value
        try:
            return msgspec.convert(given, entry.query, strict=False)
        except msgspec.ValidationError as error:
            raise _unexpected(str(error), entry.query, given) from error

    return read


def _unexpected(text: str, query: Any, given: dict[str, Any]) -> Refusal:
    """Return the refusal of a parameter, with the words that it may be where there are few."""
    field = field_of(text).partition("[")[0]
    words = openapi.words_of(query, field)
    if not words:
        return Refusal(422, f"{text}.", field=field)
    found = given.get(field)
    shown = ", ".join(found) if isinstance(found, list) else found
    return Refusal(422, f"{field}: expected {', '.join(words)}, found {shown!r:.100}.", field=field)


def _refuse_query(request: AnyRequest) -> None:
    """An address without parameters is asked without: a misspelt one must not pass unseen."""
    if request.scope["query_string"]:
        name = next(iter(request.query_params), "")
        raise Refusal(
            422, f"expected no parameters at {request.url.path}, found {name!r:.60}. Leave it out.", field=name
        )


def _plain_handlers(parts: Parts) -> list[HTTPRouteHandler]:
    @cache
    def description() -> bytes:  # takes longer than the rest of the start; few ever ask
        return _encode(openapi.describe(API_ROUTES, parts.node().version))

    async def healthz(request: AnyRequest) -> Response[bytes]:
        return _answer(200, {"status": "ok", "checks": {"service": "running"}})

    async def readyz(request: AnyRequest) -> Response[bytes]:
        problem = await _store_problem(parts)
        checks = {"store": problem or "ok"}
        return _answer(503 if problem else 200, {"status": "unready" if problem else "ok", "checks": checks})

    async def metrics(request: AnyRequest) -> Response[bytes]:
        if parts.metrics is None:
            raise Refusal(501, "this process keeps no metrics.")
        return Response(await parts.metrics(), media_type=METRICS_TYPE)

    async def describe(request: AnyRequest) -> Response[bytes]:
        return _packed(request, description(), 200)

    return [
        _registered("/healthz", "GET", healthz),
        _registered("/readyz", "GET", readyz),
        _registered("/metrics", "GET", metrics),
        _registered(f"{openapi.BASE}/openapi.json", "GET", describe),
    ]


async def _store_problem(parts: Parts) -> str:
    """Return why this process is not ready, or an empty text."""
    info = parts.node()
    if info.state != "ready" or info.problem:
        return info.problem or f"the node is {info.state}"
    try:
        async with asyncio.timeout(_READY_LIMIT):
            await parts.store.stats()
    except TimeoutError:
        return f"no answer within {_READY_LIMIT:g} s"
    except HoldfastError as error:
        return str(error)
    return ""


def _answer(status: int, value: object) -> Response[bytes]:
    return Response(_encode(value), status_code=status, media_type=JSON)


# --- refusals ------------------------------------------------------------------------------------------------------


def _problem_response(problem: Problem, **headers: str) -> Response[bytes]:
    return Response(_encode(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _refuse(request: AnyRequest, error: Exception) -> Response[bytes]:
    problem = problem_of(error)
    return _report(request, error) if problem is None else _problem_response(problem)


def _refuse_ours(request: AnyRequest, error: Refusal) -> Response[bytes]:
    wait = {"retry-after": str(max(1, round(error.wait)))} if error.wait else {}
    return _problem_response(http_problem(error.status, error.detail, error.field), **wait)


def _refuse_unprocessable(request: AnyRequest, error: Unprocessable) -> Response[bytes]:
    problem = problem_of(error.cause) or http_problem(422, str(error))
    return _problem_response(msgspec.structs.replace(problem, status=422, field=problem.field or "task"))


def _refuse_http(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    details = {
        404: f"nothing is served at {request.url.path}. See {openapi.BASE}/openapi.json.",
        405: f"{request.method} is not a method of {request.url.path}. See {openapi.BASE}/openapi.json.",
        413: "the body is over the limit of this address. Send fewer items at a time.",
    }
    detail = details.get(error.status_code, error.detail)
    headers = {"allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else {}
    return _problem_response(http_problem(error.status_code, detail), **headers)


def _refuse_unreadable(request: AnyRequest, error: Exception) -> Response[bytes]:
    return _problem_response(http_problem(400, f"expected JSON, found something else: {error}."))


def _refuse_unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    return _problem_response(http_problem(422, f"{error}.", field_of(str(error))))


def _report(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Something of ours broke: the log gets the whole of it, the caller a short word and the name of the request."""
    name = request.scope.get(REQUEST_ID, "")
    logger.error("%s %r raised (request %s)", request.method, request.scope["path"], name, exc_info=error)
    return _problem_response(http_problem(500, f"something of ours broke; the log says what, under request {name}."))
