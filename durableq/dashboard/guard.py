"""The checks of every request before a page sees it, and the headers of every answer."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durableq.dashboard.access import MAX_ACTOR_CHARS, UNNAMED, Access
from durableq.dashboard.errors import Refusal
from durableq.model.text import visible

FORM_COOKIE: Final = "durableq_form"
LOGIN_COOKIE: Final = "durableq_login"
#: The field of a form that repeats the cookie.
FORM_FIELD: Final = "form_token"
_READING: Final = frozenset({"GET", "HEAD"})
_FREE: Final = ("/static/", "/login")
#: Read by programs, which have a token, and no cookie.
METRICS: Final = "/metrics"
#: No script or style but our own files; no other site may show a page in a frame.
POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",  # with no-referrer the Origin of a form would be null
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


RefusedPage = Callable[[Request, Refusal], Response]


class Guard:
    """Refuses requests that must not reach a page, and finds out who asks.

    Args:
        app: the pages.
        access: the rules.
        refused: makes the page of a refusal.
    """

    def __init__(self, app: ASGIApp, access: Access, refused: RefusedPage) -> None:
        self._app = app
        self._access = access
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        scope.setdefault("state", {})["form_token"] = _form_token(request)
        scope["state"]["actor"] = None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(request, MutableHeaders(scope=message))
            await send(message)

        answer = self._answer(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that reaches no page, or None."""
        try:
            self._check_host(request)
            if request.method not in _READING:
                check_origin(request)
            actor = self._actor(request)
        except Refusal as refusal:
            return self._refused(request, refusal)
        request.state.actor = actor
        if actor is not None or path_of(request).startswith(_FREE):
            return None
        if path_of(request) == METRICS:
            says = "The metrics need the header Authorization: Bearer TOKEN.\n"
            return PlainTextResponse(says, 401, {"www-authenticate": "Bearer"})
        if request.method in _READING and "hx-request" not in request.headers:
            return RedirectResponse(root_of(request) + "/login", 303)
        return self._refused(request, Refusal(403, "Nobody is logged in.", "Log in first."))

    def _check_host(self, request: Request) -> None:
        """Refuse a host name that is not ours.

        Raises:
            Refusal: it is not.
        """
        host = request.headers.get("host", "")
        if not self._access.serves(host):
            raise Refusal(
                421,
                f"This dashboard is not served as {visible(host, 80) or 'a host without a name'}.",
                "Use its address, or name this host where it is started (--allow-host).",
            )

    def _actor(self, request: Request) -> str | None:
        """Return who asks; None: nobody who may.

        Raises:
            Refusal: the proxy's header is missing.
        """
        access = self._access
        if access.header is not None:
            name = request.headers.get(access.header, "").strip()
            if not name:
                raise Refusal(
                    403,
                    f"The header {access.header}, which names the person, is missing.",
                    "Reach this dashboard through the proxy that sets it.",
                )
            return visible(name, MAX_ACTOR_CHARS)
        if access.tokens:
            cookie = request.cookies.get(LOGIN_COOKIE, "")
            return access.person_logged_in(cookie) or access.person_of(bearer_token(request))
        user = request.scope.get("user")  # of the application that mounts this one
        is_known = getattr(user, "is_authenticated", False)
        name = getattr(user, "display_name", "") if is_known else ""
        return visible(str(name), MAX_ACTOR_CHARS) or UNNAMED


def bearer_token(request: Request) -> str:
    """Return the token of a program; empty without one, and for a request that is an action."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    is_read = request.method in _READING
    return token.strip() if is_read and kind.lower() == "bearer" else ""


def root_of(request: HTTPConnection) -> str:
    """Return the path under which the dashboard is mounted; empty at the top."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: HTTPConnection) -> str:
    """Return the path below the dashboard's own."""
    return str(request.scope["path"]).removeprefix(root_of(request))


def check_origin(request: Request) -> None:
    """Refuse a request that a page of another site has made.

    Raises:
        Refusal: the Origin is another, or missing.
    """
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    _, separator, authority = origin.partition("://")
    if not (host and separator) or authority.lower() != host.lower():
        named = f"from {visible(origin, 80)}" if origin else "without an Origin"
        raise Refusal(
            403,
            f"A request {named} may change nothing here.",
            "Use the forms of this dashboard. A proxy must pass the Host header on.",
        )


def check_form(request: Request, given: str) -> None:
    """Refuse a form that is not of a page of ours.

    Raises:
        Refusal: its token is missing, or another.
    """
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), given.encode()):
        raise Refusal(
            403, "The form has no valid token.", "Reload the page, and send its form again."
        )


def _form_token(request: Request) -> str:
    return request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe()


def _add_headers(request: Request, headers: MutableHeaders) -> None:
    for name, value in _HEADERS.items():
        headers[name] = value
    if path_of(request).startswith("/static/"):
        return
    headers["cache-control"] = "no-store"
    if FORM_COOKIE not in request.cookies:
        headers.append("set-cookie", cookie(request, FORM_COOKIE, request.state.form_token))


def cookie(request: HTTPConnection, name: str, value: str, seconds: int | None = None) -> str:
    """Return the header of a cookie that only our own pages send back.

    Args:
        request: the one that is answered.
        name: of the cookie.
        value: ASCII without spaces and semicolons.
        seconds: how long it is kept; None: until the browser ends.
    """
    parts = [f"{name}={value}", f"Path={root_of(request) or '/'}", "HttpOnly", "SameSite=Strict"]
    parts += [] if seconds is None else [f"Max-Age={seconds}"]
    parts += ["Secure"] if request.url.scheme == "https" else []
    return "; ".join(parts)
