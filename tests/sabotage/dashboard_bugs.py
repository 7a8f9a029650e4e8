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


def show_hidden_fields() -> None:
    from durableq.dashboard import redaction

    module: Any = redaction
    module.Redaction._hides = lambda *_: False


def show_hidden_fields_of_texts() -> None:
    """The JSON in a string of an envelope is shown."""
    from durableq.dashboard import redaction

    module: Any = redaction
    module.Redaction._text = lambda _self, text, *_: text


def pass_every_read_of_a_store() -> None:
    """A read that comes later shows hidden values until someone thinks of it."""
    from durableq.dashboard import redaction

    module: Any = redaction
    module.RedactedStore.__getattr__ = lambda self, name: getattr(self._store, name)


def quote_errors_beside_hidden_fields() -> None:
    """The text of an error repeats the value that its page hides."""
    from durableq.dashboard import redaction

    module: Any = redaction
    module.Redaction.event = lambda _, event: event


def quote_the_error_that_opened_a_breaker() -> None:
    from durableq.dashboard import redaction

    module: Any = redaction
    module.Redaction.sentence = lambda _, text: text


def search_hidden_values() -> None:
    """Letter by letter, a search finds out what a page does not show."""
    from durableq.dashboard import redaction

    module: Any = redaction
    del module.RedactedStore.search


def retry_whatever_is_there() -> None:
    """A person's body replaces one that the person has not seen."""
    from durableq.dashboard import decisions

    class Same(str):
        __slots__ = ()

        def __ne__(self, _: object) -> bool:
            return False

    module: Any = decisions
    module.seen = lambda _: Same()


def edit_a_body_with_hidden_fields() -> None:
    """The word in place of a value would be sent as the value."""
    import dataclasses

    from durableq.dashboard import decisions
    from durableq.dashboard.redaction import Redaction

    module: Any = decisions
    retry = module._retry
    module._retry = lambda visit: retry(dataclasses.replace(visit, redaction=Redaction()))


def send_an_edited_text_that_is_no_json() -> None:
    from durableq.dashboard import decisions

    module: Any = decisions
    module._edited = lambda text: text


def show_what_acts_on_a_screen_again() -> None:
    from durableq.dashboard import decisions

    module: Any = decisions
    module.escaped = module.visible = lambda text: text


def let_an_unknown_reason_match_all() -> None:
    """A page about one reason, misspelt, has a form that acts on every dead letter."""
    from durableq.dashboard import letters
    from durableq.model.message import Reason

    module: Any = letters
    wanted = module.wanted

    def known(value: Any) -> Any:
        return wanted(
            lambda name: value(name) if name != "reason" or value(name) in set(Reason) else None
        )

    module.wanted = known


def open_a_reader_for_writing() -> None:
    from durableq.client import reader

    module: Any = reader
    module.Reader._is_reader = False


def read_the_real_store_in_a_test() -> None:
    """A reader that was open before `fresh` goes on reading the real store."""
    from durableq.client import app

    module: Any = app
    module.DurableQ._close_seconds = lambda _: None


def let_a_reader_write_on_the_server() -> None:
    from durableq.engines.postgres import database

    module: Any = database
    module.READ_SESSION = "SELECT 1"
    look_at = module.Database._look_at

    def forget(self: Any, link: Any) -> None:
        self.is_read_only = False
        look_at(self, link)

    module.Database._look_at = forget


def act_without_a_name() -> None:
    from durableq.dashboard import visit

    module: Any = visit
    module.Visit.actor = property(lambda _: "")


def expire_a_released_dead_letter() -> None:
    """Its retention has counted while it was held, so that the next slice removes it."""
    from durableq.engines.sql import dead_letters
    from durableq.model.message import State

    module: Any = dead_letters
    put_back = module.put_back

    def from_arrival(tx: Any, row: Any, leased: Any, state: State, until_ms: int | None) -> bool:
        return bool(put_back(tx, row, leased, state, 0 if state is State.READY else until_ms))

    module.put_back = from_arrival


def let_scrapers_in_without_a_token() -> None:
    """The metrics are free, as the login is."""
    from durableq.dashboard import guard

    module: Any = guard
    module._FREE = (*module._FREE, module.METRICS)


def believe_any_token_of_a_scraper() -> None:
    from durableq.dashboard import access

    module: Any = access
    module.Access.person_of = lambda _, token: token or None


def take_actions_of_scrapers() -> None:
    """The token of a program lets it in for actions too."""
    from durableq.dashboard import guard

    module: Any = guard
    module.bearer_token = lambda request: request.headers.get("authorization", "")[7:]


def let_a_request_choose_the_folder_of_a_backup() -> None:
    from durableq.admin import operations
    from durableq.dashboard import upkeep
    from durableq.dashboard.visit import Done

    module: Any = upkeep

    def back_up(visit: Any) -> Any:
        given = {**visit.request.query_params, **visit.form}
        paths = [value for value in given.values() if value.startswith("/")]
        copied = operations.back_up(visit.dq.url, paths[0])
        return Done("/health", copied.path)

    module.ACTIONS = (*module.ACTIONS[:-1], ("/health/backup", back_up))


def keep_the_upkeep_of_a_read_only_dashboard() -> None:
    """With --read-only only the actions on messages are left out."""
    from starlette.routing import Route

    from durableq.dashboard import site, upkeep

    module: Any = site._Site
    application = module.application

    def with_upkeep(self: Any) -> Any:
        made = application(self)
        for path, action in upkeep.ACTIONS:
            made.router.routes.append(Route(path, self._action(action), methods=["POST"]))
        return made

    module.application = with_upkeep


def drain_recovery_processes() -> None:
    from durableq.dashboard import upkeep

    module: Any = upkeep
    module.RECOVERY_ACTOR = "no process has this name"


BUGS = (
    show_hidden_fields,
    show_hidden_fields_of_texts,
    pass_every_read_of_a_store,
    quote_errors_beside_hidden_fields,
    quote_the_error_that_opened_a_breaker,
    search_hidden_values,
    retry_whatever_is_there,
    edit_a_body_with_hidden_fields,
    send_an_edited_text_that_is_no_json,
    show_what_acts_on_a_screen_again,
    let_an_unknown_reason_match_all,
    open_a_reader_for_writing,
    read_the_real_store_in_a_test,
    let_a_reader_write_on_the_server,
    act_without_a_name,
    expire_a_released_dead_letter,
    serve_any_host,
    believe_any_origin,
    take_forms_without_their_token,
    let_markup_of_messages_through,
    let_scrapers_in_without_a_token,
    believe_any_token_of_a_scraper,
    take_actions_of_scrapers,
    let_a_request_choose_the_folder_of_a_backup,
    keep_the_upkeep_of_a_read_only_dashboard,
    drain_recovery_processes,
)
_GUARD = "tests/dashboard/test_guard.py::"
_REDACTION = "tests/dashboard/test_redaction.py::"
_NO_PAGE = _REDACTION + "test_no_page_shows_a_hidden_value[sqlite]"
_DECISIONS = "tests/dashboard/test_decisions.py::"
_BROKEN = _DECISIONS + "test_a_body_that_is_no_json_is_refused[sqlite]"
_READ_ONLY = "tests/dashboard/test_read_only.py::"
_SCRAPING = "tests/dashboard/test_scraping.py::"
SEEN_BY = (
    ("show_hidden_fields", _NO_PAGE),
    ("show_hidden_fields_of_texts", _NO_PAGE),
    (
        "pass_every_read_of_a_store",
        _REDACTION + "test_an_operation_that_is_not_known_is_refused",
    ),
    ("quote_errors_beside_hidden_fields", _NO_PAGE),
    ("quote_the_error_that_opened_a_breaker", _NO_PAGE),
    ("search_hidden_values", _REDACTION + "test_a_search_does_not_find_hidden_values"),
    (
        "retry_whatever_is_there",
        _DECISIONS + "test_a_dead_letter_that_has_changed_is_not_retried[sqlite]",
    ),
    (
        "edit_a_body_with_hidden_fields",
        _REDACTION + "test_a_body_is_not_edited_while_fields_are_hidden",
    ),
    (
        "send_an_edited_text_that_is_no_json",
        _BROKEN,
    ),
    (
        "show_what_acts_on_a_screen_again",
        _DECISIONS + "test_a_refused_text_is_shown_again_to_be_mended",
    ),
    (
        "let_an_unknown_reason_match_all",
        "tests/dashboard/test_pages.py::test_an_unknown_value_in_an_address_is_refused[reason]",
    ),
    ("open_a_reader_for_writing", _READ_ONLY + "test_the_database_refuses_a_write[sqlite]"),
    (
        "read_the_real_store_in_a_test",
        _READ_ONLY + "test_a_reader_that_was_open_reads_the_fresh_store_of_a_test",
    ),
    (
        "let_a_reader_write_on_the_server",
        _READ_ONLY + "test_the_database_refuses_a_write[postgres]",
    ),
    (
        "act_without_a_name",
        _DECISIONS + "test_a_decision_names_the_person_and_the_note[sqlite-hold-held]",
    ),
    (
        "expire_a_released_dead_letter",
        "tests/contract/test_sqlite.py::TestSQLite::test_a_released_dead_letter_is_received_again",
    ),
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
    (
        "let_markup_of_messages_through",
        "tests/dashboard/test_upkeep_guard.py::test_texts_of_keys_rules_and_workers_stay_texts",
    ),
    ("let_scrapers_in_without_a_token", _SCRAPING + "test_a_scraper_needs_a_token[-401]"),
    (
        "believe_any_token_of_a_scraper",
        _SCRAPING + "test_a_scraper_needs_a_token[Bearer another-token-of-many-characters-401]",
    ),
    ("take_actions_of_scrapers", _SCRAPING + "test_the_token_of_a_scraper_changes_nothing"),
    (
        "let_a_request_choose_the_folder_of_a_backup",
        "tests/dashboard/test_backups.py::test_a_request_has_no_part_in_the_path[to]",
    ),
    (
        "keep_the_upkeep_of_a_read_only_dashboard",
        "tests/dashboard/test_upkeep_guard.py::test_read_only_has_none_of_these_actions",
    ),
    (
        "drain_recovery_processes",
        "tests/dashboard/test_upkeep.py::test_a_worker_is_drained[sqlite]",
    ),
)
