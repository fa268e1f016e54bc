"""What a browser sees: the status page, the page that opens a session, and their style. No script."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs

from litestar import HttpMethod, Request, Response
from litestar.handlers import HTTPRouteHandler

from holdfast.audit import AuditEntry
from holdfast.hub import status
from holdfast.hub.door import BASE_PATH, ENTRANCE, PRINCIPAL, SESSION, cookie_of
from holdfast.hub.html import Html, fill
from holdfast.hub.refusals import Refusal
from holdfast.hub.scopes import OWNER, Principal, Scope
from holdfast.hub.sessions import COOKIE, LIFE, Session, same

if TYPE_CHECKING:
    from holdfast.hub.parts import Parts

    AnyRequest = Request[Any, Any, Any]

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# With no referrer at all a browser sends the forms of our own pages with `Origin: null`, which is turned away. Other sites
# are told nothing all the same.
_HEADERS: Final = {"content-security-policy": _POLICY, "referrer-policy": "same-origin"}
_HTML: Final = "text/html"
_FORM_MAX: Final = 4_096
_ENTRANCE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Holdfast</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{base}/hub.css"></head><body><div class="page entry">
<h1>Holdfast</h1><section>{inner}</section></div></body></html>
"""
_WITH_CODE: Final = """<p>This link opens a session in this browser, once.</p>
<form method="post" action="{base}/session"><input type="hidden" name="code" value="{code}">
<button class="main">Open the hub</button></form>"""
_WITHOUT: Final = """<p>{why}</p><p class="sub">To come in, ask for a link on the machine of this hub:</p>
<p><code>holdfast hub open</code></p>"""
_CORNER: Final = """<span class="sub">{who}</span><form method="post" action="{base}/session/end">
<input type="hidden" name="csrf" value="{csrf}"><button>Sign out</button></form>"""


def handlers(parts: Parts) -> list[HTTPRouteHandler]:
    """Return the pages over `parts`; without sessions there is only the status page."""
    style = files("holdfast.hub").joinpath("hub.css").read_bytes()

    async def home(request: AnyRequest) -> Response[str]:
        principal = cast("Principal", request.scope.get(PRINCIPAL, OWNER))
        if Scope.READ not in principal.scopes:
            raise Refusal(403, f"expected a token or session with scope {Scope.READ}, found one without.")
        base = _base(request)
        who = _corner(request, principal, base)
        sees = Scope.READ_PAYLOAD in principal.scopes
        return _page(status.page(await status.look(parts), who=who, base=base, sees_payload=sees))

    async def css(request: AnyRequest) -> Response[bytes]:
        return Response(style, media_type="text/css", headers={"cache-control": "max-age=300"})

    async def entrance(request: AnyRequest) -> Response[str]:
        code = request.query_params.get("code", "")
        return _entrance(_base(request), code)

    async def enter(request: AnyRequest) -> Response[Any]:
        return await _enter(parts, request)

    async def leave(request: AnyRequest) -> Response[Any]:
        session = cast("Session | None", request.scope.get(SESSION))
        if session is None or not same((await _form(request)).get("csrf", ""), session.csrf):
            raise Refusal(403, "expected the form of the status page, found another. Reload the page.")
        if parts.sessions is not None:
            parts.sessions.end(cookie_of(request.scope["headers"]))
        return _to(f"{_base(request)}{ENTRANCE}", f"{COOKIE}=; Path={_base(request) or '/'}; Max-Age=0")

    return [
        _registered("/", HttpMethod.GET, home),
        _registered("/hub.css", HttpMethod.GET, css),
        _registered(ENTRANCE, HttpMethod.GET, entrance),
        _registered(ENTRANCE, HttpMethod.POST, enter),
        _registered("/session/end", HttpMethod.POST, leave),
    ]


def _registered(path: str, method: HttpMethod, handle: Any) -> HTTPRouteHandler:
    handle.__annotations__ = {"request": Request[Any, Any, Any], "return": Response[Any]}
    handler: HTTPRouteHandler = HTTPRouteHandler(
        path, http_method=method, status_code=200, request_max_body_size=_FORM_MAX
    )(handle)
    return handler


def _base(request: AnyRequest) -> str:
    return cast("str", request.scope.get(BASE_PATH, ""))


def _page(html: Html, code: int = 200) -> Response[str]:
    return Response(str(html), status_code=code, media_type=_HTML, headers=_HEADERS)


def _to(place: str, cookie: str) -> Response[bytes]:
    headers = {"location": place, "set-cookie": f"{cookie}; HttpOnly; SameSite=Strict"}
    return Response(b"", status_code=303, headers=headers, media_type="text/plain")


def _corner(request: AnyRequest, principal: Principal, base: str) -> Html:
    session = cast("Session | None", request.scope.get(SESSION))
    if session is not None:
        return fill(_CORNER, who=session.who, base=base, csrf=session.csrf)
    return fill('<span class="sub">{who}</span>', who=principal.name or "read only; holdfast hub open lets you in")


def _entrance(base: str, code: str, why: str = "A session is needed here.", status_code: int = 200) -> Response[str]:
    inner = fill(_WITH_CODE, base=base, code=code) if code else fill(_WITHOUT, why=why)
    return _page(fill(_ENTRANCE, base=base, inner=inner), status_code)


async def _form(request: AnyRequest) -> dict[str, str]:
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}


async def _enter(parts: Parts, request: AnyRequest) -> Response[Any]:
    """Redeem a code: set the cookie and show the status page."""
    code = (await _form(request)).get("code", "")
    opened = parts.sessions.redeem(code) if parts.sessions is not None else None
    base = _base(request)
    if opened is None:
        return _entrance(base, "", "This link was used already, or is older than ten minutes.", 403)
    cookie, session = opened
    if parts.audit is not None:
        await parts.audit.record(AuditEntry(who=session.who, action="open_session", count=1))
    # The page that sent this says whether the browser came by TLS, through whatever proxy.
    secure = "; Secure" if request.headers.get("origin", "").startswith("https:") else ""
    return _to(f"{base}/", f"{COOKIE}={cookie}; Path={base or '/'}; Max-Age={LIFE:.0f}{secure}")
