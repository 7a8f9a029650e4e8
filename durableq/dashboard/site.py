"""The application: its routes, and how a request becomes a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from durableq.client.app import DurableQ
from durableq.client.reader import Reader
from durableq.dashboard import actions, login, upkeep
from durableq.dashboard.access import Access
from durableq.dashboard.actions import Action
from durableq.dashboard.backups import Backups
from durableq.dashboard.errors import Refusal, log, refusal_of
from durableq.dashboard.guard import FORM_FIELD, Guard, check_form, cookie, path_of, root_of
from durableq.dashboard.live import Live
from durableq.dashboard.look import Look
from durableq.dashboard.pages import PAGES, Page
from durableq.dashboard.redaction import Redaction
from durableq.dashboard.rendering import environment
from durableq.dashboard.rules import Given, Rules
from durableq.dashboard.visit import Visit
from durableq.model.text import visible

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
STATIC: Final = Path(__file__).parent / "static"
#: Reads and actions that run at the same time, each with a connection of its own.
MAX_THREADS: Final = 4
MAX_FORM_BYTES: Final = 4 << 20
MAX_FORM_FIELDS: Final = 1_000
NOTICE_COOKIE: Final = "durableq_notice"
_NOTICE_CHARS: Final = 500


def dashboard(
    dq: DurableQ,
    *,
    access: Access | None = None,
    read_only: bool = False,
    redact: Sequence[str] = (),
    rules: Given | None = None,
    backup_dir: str | Path | None = None,
) -> Starlette:
    """Return the dashboard of an application's store, to be served or mounted.

    The application that mounts it decides who reaches it. A person whom Starlette's
    AuthenticationMiddleware knows is the actor of actions.

    Args:
        dq: the application; nothing is opened before the first page.
        access: the rules of access; None: the application that mounts it has its own.
        read_only: leave out all actions, and open the store a second time so that the database
            refuses every write.
        redact: names of fields whose values no page shows; see Redaction.
        rules: a file of recovery rules, or policies by queue, for dry runs; None: the
            application's policies.
        backup_dir: the folder for backups of a file; None: that of the database.

    Raises:
        InvalidInput: a name in `redact` is none, the rules are wrong, or `backup_dir` is no folder.
    """
    redaction = Redaction(redact)
    known = Rules(dq.policies if rules is None else rules, redaction)
    if known.is_file:
        known.policies()  # refused here, not in the browser
    backups = Backups(dq, None if backup_dir is None else Path(backup_dir))
    if read_only and not isinstance(dq, Reader):
        dq = Reader(dq)
    look = Look(dq, redaction)
    make_visit = partial(Visit, dq=dq, look=look, redaction=redaction, rules=known, backups=backups)
    made = _Site(dq, access or Access(), make_visit, is_read_only=read_only).application()
    made.state.backups = backups
    return made


class _Site:
    def __init__(
        self,
        dq: DurableQ,
        access: Access,
        make_visit: Callable[..., Visit],
        *,
        is_read_only: bool,
    ) -> None:
        self._access = access
        self._is_read_only = is_read_only
        self._make_visit = make_visit
        self._live = Live(dq)
        self._templates = environment()
        self._limiter = CapacityLimiter(MAX_THREADS)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=STATIC))]
        for path, template, page in PAGES:
            routes.append(Route(path, self._page(template, page), methods=["GET"]))
        routes.append(Route("/events", self._events, methods=["GET"]))
        if not self._is_read_only:
            for path, action in (*actions.ACTIONS, *upkeep.ACTIONS):
                routes.append(Route(path, self._action(action), methods=["POST"]))
        if self._access.tokens:
            routes += login.routes(self._access, self._form, self._render)
        handlers: dict[Any, Any] = {HTTPException: self._failed}
        guard = Middleware(Guard, access=self._access, refused=self._refused)
        made = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
        made.state.live = self._live
        return made

    def _page(self, template: str, page: Page) -> Endpoint:
        """Return the endpoint of a page."""

        async def answer(request: Request) -> Response:
            try:
                shown = await self._in_thread(lambda: page(self._visit(request)))
                return (
                    shown if isinstance(shown, Response) else self._render(request, template, shown)
                )
            except Exception as error:  # noqa: BLE001 - every error is a page
                return self._refused(request, refusal_of(error))

        return answer

    def _action(self, action: Action) -> Endpoint:
        """Return the endpoint of an action, which leads to a page."""

        async def answer(request: Request) -> Response:
            try:
                fields = await self._form(request)
                done = await self._in_thread(lambda: action(self._visit(request, fields)))
            except Exception as error:  # noqa: BLE001 - every error is a page
                return self._refused(request, refusal_of(error))
            log.info("%s: %s", request.state.actor, visible(done.sentence))
            response = RedirectResponse(root_of(request) + done.path, 303)
            said = quote(done.sentence[:_NOTICE_CHARS])
            response.headers.append("set-cookie", cookie(request, NOTICE_COOKIE, said, 60))
            return response

        return answer

    async def _events(self, request: Request) -> Response:
        headers = {"x-accel-buffering": "no"}  # a proxy passes each event on at once
        events = self._live.events()
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _visit(self, request: Request, fields: list[tuple[str, str]] | None = None) -> Visit:
        given = fields or []
        ids = tuple(value for name, value in given if name == "id")
        return self._make_visit(request, form=dict(given), ids=ids)

    async def _form(self, request: Request) -> list[tuple[str, str]]:
        """Return the fields of a form of ours.

        Raises:
            Refusal: it is not ours, or too large.
        """
        text = bytearray()
        async for part in request.stream():
            text += part
            if len(text) > MAX_FORM_BYTES:
                raise Refusal(413, f"A form has at most {MAX_FORM_BYTES >> 20} MiB.")
        try:
            fields = parse_qsl(
                text.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS
            )
        except ValueError:
            raise Refusal(400, "The form cannot be read.") from None
        check_form(request, dict(fields).get(FORM_FIELD, ""))
        return fields

    def _render(
        self, request: Request, template: str, values: Mapping[str, Any], status: int = 200
    ) -> Response:
        root, query = root_of(request), request.url.query
        text = self._templates.get_template(template).render(
            actor=request.state.actor,
            form_field=FORM_FIELD,
            form_token=request.state.form_token,
            has_login=bool(self._access.tokens),
            here=path_of(request),
            is_read_only=self._is_read_only,
            link=partial(_link, root),
            own_address=root + path_of(request) + (f"?{query}" if query else ""),
            notice=unquote(request.cookies.get(NOTICE_COOKIE, "")),
            **values,
        )
        response = HTMLResponse(text, status)
        if NOTICE_COOKIE in request.cookies and "hx-request" not in request.headers:
            response.headers.append("set-cookie", cookie(request, NOTICE_COOKIE, "", 0))
        return response

    def _refused(self, request: Request, refusal: Refusal) -> Response:
        return self._render(request, "refused.html", {"refusal": refusal}, refusal.status)

    async def _failed(self, request: Request, error: Exception) -> Response:
        return self._refused(request, refusal_of(error))


def _link(root: str, path: str) -> str:
    return root + path
