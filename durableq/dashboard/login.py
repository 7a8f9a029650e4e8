"""Logging in with a token, and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from durableq.dashboard.access import LOGIN_SECONDS, Access
from durableq.dashboard.errors import Refusal
from durableq.dashboard.guard import LOGIN_COOKIE, cookie, root_of

ReadForm = Callable[[Request], Awaitable[list[tuple[str, str]]]]


def routes(access: Access, read_form: ReadForm, render: Callable[..., Response]) -> list[Route]:
    """Return the routes of logging in and out.

    Args:
        access: the rules, with the tokens.
        read_form: returns the fields of a form of ours.
        render: makes a page of a template.
    """

    async def show(request: Request) -> Response:
        return render(request, "login.html", {"wrong": ""})

    async def enter(request: Request) -> Response:
        try:
            token = dict(await read_form(request)).get("token", "").strip()
        except Refusal as refusal:
            return render(request, "refused.html", {"refusal": refusal}, refusal.status)
        if access.person_of(token) is None:
            wrong: dict[str, Any] = {"wrong": "There is no such token."}
            return render(request, "login.html", wrong, 403)
        response = RedirectResponse(root_of(request) + "/", 303)
        value = cookie(request, LOGIN_COOKIE, access.login(token), LOGIN_SECONDS)
        response.headers.append("set-cookie", value)
        return response

    async def leave(request: Request) -> Response:
        try:
            await read_form(request)
        except Refusal as refusal:
            return render(request, "refused.html", {"refusal": refusal}, refusal.status)
        response = RedirectResponse(root_of(request) + "/login", 303)
        response.headers.append("set-cookie", cookie(request, LOGIN_COOKIE, "", 0))
        return response

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", enter, methods=["POST"]),
        Route("/logout", leave, methods=["POST"]),
    ]
