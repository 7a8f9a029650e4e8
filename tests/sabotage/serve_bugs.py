"""Bugs to plant in `durableq serve`, which is imported only here."""

from __future__ import annotations

import asyncio
from typing import Any

HTTP = "tests/serve/test_http.py::"
HANG_UPS = "tests/serve/test_hang_ups.py::"
ACCESS = "tests/serve/test_access.py::"


def keep_a_receive_whose_client_is_gone() -> None:
    """Nobody looks whether the client of a receive is still there."""
    from durableq.serve import http

    module: Any = http

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    module._hung_up = never


def keep_the_messages_of_a_client_that_is_gone() -> None:
    """Messages that were leased at the moment of the hang-up stay leased."""
    from durableq.serve import http

    module: Any = http

    class Forgetful(list[Any]):
        def append(self, _: Any) -> None:
            pass

    made = module.Context

    def careless(*arguments: Any) -> Any:
        return made(*arguments, undo=Forgetful())

    module.Context = careless


def let_receives_hold_the_stop_up() -> None:
    """Receives that wait are not ended when the server stops."""
    from durableq.serve import context

    cls: Any = context.Stopping
    cls.set = lambda stopping: setattr(stopping, "_is_set", True)


def believe_any_signature() -> None:
    """A signature of a known key is not compared."""
    from durableq.serve import signatures

    module: Any = signatures
    module._expected = lambda _request, signature, _secret: signature.value.encode()


def believe_any_key() -> None:
    """An unsigned request is let in."""
    from durableq.serve import access

    module: Any = access
    check = module.Access.check

    def careless(rules: Any, request: Any, signature: Any) -> None:
        if signature is not None:
            check(rules, request, signature)

    module.Access.check = careless


def serve_pages_of_other_sites() -> None:
    """A page in a browser may send a form."""
    from durableq.serve import access

    module: Any = access
    module.refuse_pages = lambda _request: None


def take_bodies_of_any_size() -> None:
    """A body in chunks has no limit."""
    from durableq.serve import bodies

    module: Any = bodies

    async def pass_on(*_: Any) -> None:
        pass

    module.Body._drop = pass_on


def take_headers_of_any_size() -> None:
    """Headers are kept as long as they come."""
    from durableq.serve import connections

    module: Any = connections
    module.Connection._count = lambda connection, _: setattr(connection, "_unparsed", 0)


def wait_for_slow_clients() -> None:
    """A connection without a request, or with a part of one, stays open."""
    from durableq.serve import connections

    module: Any = connections
    module.Connection._start_timer = lambda *_: None


BUGS = (
    keep_a_receive_whose_client_is_gone,
    keep_the_messages_of_a_client_that_is_gone,
    let_receives_hold_the_stop_up,
    believe_any_signature,
    believe_any_key,
    serve_pages_of_other_sites,
    take_bodies_of_any_size,
    take_headers_of_any_size,
    wait_for_slow_clients,
)
_SIGNED = "test_signatures_are_checked_where_keys_are_known"
SEEN_BY = (
    (
        "keep_a_receive_whose_client_is_gone",
        HANG_UPS + "test_a_receive_ends_when_its_client_hangs_up",
    ),
    (
        "keep_the_messages_of_a_client_that_is_gone",
        HANG_UPS + "test_messages_received_for_a_client_that_is_gone_are_released",
    ),
    (
        "let_receives_hold_the_stop_up",
        HTTP + "test_a_stop_answers_receives_and_takes_no_new_requests",
    ),
    ("believe_any_signature", ACCESS + _SIGNED),
    ("believe_any_key", ACCESS + _SIGNED),
    (
        "serve_pages_of_other_sites",
        ACCESS + "test_a_page_in_a_browser_may_not_use_it[headers1]",
    ),
    ("take_bodies_of_any_size", HTTP + "test_a_body_has_a_limit_also_in_chunks"),
    ("take_headers_of_any_size", HTTP + "test_headers_have_a_limit"),
    (
        "wait_for_slow_clients",
        HTTP + "test_a_slow_client_is_sent_away_and_holds_no_other",
    ),
)
