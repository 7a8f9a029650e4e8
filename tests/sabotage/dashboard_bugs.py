"""Bugs to plant in the checks of the dashboard, which is imported only here."""

from __future__ import annotations

from typing import Any


def serve_any_host() -> None:
    """A page of another site reaches the dashboard under a name of its own."""
    from durableq.dashboard import access

    module: Any = access
    module.Access.serves = lambda *_: True


def believe_any_origin() -> None:
    """A form of another site is taken."""
    from durableq.dashboard import guard

    module: Any = guard
    module.check_origin = lambda *_: None


def take_forms_without_their_token() -> None:
    from durableq.dashboard import site

    module: Any = site
    module.check_form = lambda *_: None


def let_markup_of_messages_through() -> None:
    from durableq.dashboard import site

    module: Any = site
    environment = module.environment

    def unescaped() -> Any:
        made = environment()
        made.autoescape = False
        return made

    module.environment = unescaped


BUGS = (
    serve_any_host,
    believe_any_origin,
    take_forms_without_their_token,
    let_markup_of_messages_through,
)
_GUARD = "tests/dashboard/test_guard.py::"
SEEN_BY = (
    ("serve_any_host", _GUARD + "test_another_host_is_refused[evil.example:8080-421]"),
    ("believe_any_origin", _GUARD + "test_another_origin_is_refused[http://evil.example]"),
    (
        "take_forms_without_their_token",
        _GUARD + "test_a_form_without_the_token_is_refused[another]",
    ),
    (
        "let_markup_of_messages_through",
        "tests/dashboard/test_escaping.py::test_texts_of_messages_stay_texts",
    ),
)
