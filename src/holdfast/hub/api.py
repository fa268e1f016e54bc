"""The API as an ASGI application: routes in, Litestar out. It is a value; whoever serves it puts a `Door` before it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from litestar import HttpMethod, Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from holdfast.errors import HoldfastError
from holdfast.hub import openapi
from holdfast.hub.door import PRINCIPAL
from holdfast.hub.routes import fleet, history, jobs, links, queues, store, tasks
from holdfast.hub.routes.jobs import Unprocessable
from holdfast.hub.routing import BATCH_BODY_MAX, Call, Route, Scope
from holdfast.hub.tokens import OWNER, Principal
from holdfast.wire.problems import MEDIA_TYPE, Problem, http_problem, problem_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.hub.parts import Parts

    AnyRequest = Request[Any, Any, Any]

API_ROUTES: Final[tuple[Route, ...]] = (
    *jobs.ROUTES,
    *queues.ROUTES,
    *tasks.ROUTES,
    *fleet.ROUTES,
    *history.ROUTES,
    *store.ROUTES,
    *links.ROUTES,
)
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_JSON: Final = "application/json"
#: How long a look at the store may take before the node counts as not ready, in seconds.
_READY_LIMIT: Final = 2.0
_encode: Final = msgspec.json.Encoder().encode
logger = logging.getLogger("holdfast.hub")


def make_api(parts: Parts) -> Litestar:
    """Return the application that serves `parts`."""
    return Litestar(
        route_handlers=[*(_handler(entry, parts) for entry in API_ROUTES), *_plain_handlers(parts)],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BATCH_BODY_MAX,
        exception_handlers={
            HTTPException: _refuse_http,
            HoldfastError: _refuse,
            Unprocessable: _refuse_unprocessable,
            msgspec.DecodeError: _refuse_unreadable,
            msgspec.ValidationError: _refuse_unexpected,
            Exception: _report,
        },
    )


# --- routes --------------------------------------------------------------------------------------------------------


def _handler(entry: Route, parts: Parts) -> HTTPRouteHandler:
    """Return the Litestar handler of a route: decode, call, encode."""
    read_body, read_query = _body_reader(entry), _query_reader(entry)

    async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
        # Without a door before it, as in tests of the routes alone, everybody may do everything.
        principal = cast("Principal", request.scope.get(PRINCIPAL, OWNER))
        if entry.scope not in principal.scopes:
            return _problem_response(_out_of_scope(principal, entry))
        body = _signed(await read_body(request), principal)
        answer = await entry.handle(Call(parts, _rest(request), read_query(request), body))
        return Response(_encode(answer), status_code=entry.status, media_type=_JSON)

    path = openapi.BASE + entry.path.replace("{id}", "{rest:path}").replace("{name}", "{rest:path}")
    return _registered(path, entry.method, handle, entry.status, entry.body_max)


def _registered(path: str, method: str, handle: Any, status: int = 200, body_max: int = 0) -> HTTPRouteHandler:
    # Litestar reads the annotations of a handler, which here are those of this module.
    handle.__annotations__ = {"request": Request[Any, Any, Any], "return": Response[bytes]}
    handler: HTTPRouteHandler = HTTPRouteHandler(
        path, http_method=HttpMethod(method), status_code=status, request_max_body_size=body_max or BATCH_BODY_MAX
    )(handle)
    return handler


def _out_of_scope(principal: Principal, entry: Route) -> Problem:
    found = ", ".join(scope for scope in Scope if scope in principal.scopes)
    return http_problem(
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
        return decoder.decode(await request.body() or b"null")

    return read


def _query_reader(entry: Route) -> Callable[[AnyRequest], Any]:
    if entry.query is None:
        return lambda _: None
    many = {field.name for field in msgspec.structs.fields(entry.query) if field.default == ()}

    def read(request: AnyRequest) -> Any:
        given: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name in many:
                given.setdefault(name, []).extend(value.split(","))
            else:
                given[name] = value
        return msgspec.convert(given, entry.query, strict=False)

    return read


def _plain_handlers(parts: Parts) -> list[HTTPRouteHandler]:
    description = _encode(openapi.describe(API_ROUTES, parts.node().version))

    async def healthz(request: AnyRequest) -> Response[bytes]:
        return _answer(200, {"status": "ok", "checks": {"service": "running"}})

    async def readyz(request: AnyRequest) -> Response[bytes]:
        problem = await _store_problem(parts)
        checks = {"store": problem or "ok"}
        return _answer(503 if problem else 200, {"status": "unready" if problem else "ok", "checks": checks})

    async def metrics(request: AnyRequest) -> Response[bytes]:
        if parts.metrics is None:
            return _problem_response(http_problem(501, "this process keeps no metrics."))
        return Response(await parts.metrics(), media_type=METRICS_TYPE)

    async def describe(request: AnyRequest) -> Response[bytes]:
        return Response(description, media_type=_JSON)

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
    return Response(_encode(value), status_code=status, media_type=_JSON)


# --- refusals ------------------------------------------------------------------------------------------------------


def _problem_response(problem: Problem) -> Response[bytes]:
    return Response(_encode(problem), status_code=problem.status, media_type=MEDIA_TYPE)


def _refuse(request: AnyRequest, error: Exception) -> Response[bytes]:
    problem = problem_of(error)
    return _report(request, error) if problem is None else _problem_response(problem)


def _refuse_unprocessable(request: AnyRequest, error: Unprocessable) -> Response[bytes]:
    problem = problem_of(error.cause) or http_problem(422, str(error))
    return _problem_response(msgspec.structs.replace(problem, status=422))


def _refuse_http(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    details = {
        404: f"nothing is served at {request.url.path}. See {openapi.BASE}/openapi.json.",
        405: f"{request.method} is not a method of {request.url.path}. See {openapi.BASE}/openapi.json.",
        413: "the body is over the limit of this address. Send fewer items at a time.",
    }
    return _problem_response(http_problem(error.status_code, details.get(error.status_code, error.detail)))


def _refuse_unreadable(request: AnyRequest, error: Exception) -> Response[bytes]:
    return _problem_response(http_problem(400, f"expected JSON, found something else: {error}."))


def _refuse_unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    return _problem_response(http_problem(422, f"{error}."))


def _report(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Something of ours broke: the log gets the whole of it, the caller a short word."""
    logger.error("%s %s raised", request.method, request.url.path, exc_info=error)
    return _problem_response(http_problem(500, "something of ours broke; the log of the node says what."))
