"""Bugs to plant in the text output of commands."""

from __future__ import annotations

from typing import Any

from durableq.cli import options, tables


def show_the_password_of_a_database() -> None:
    module: Any = options
    module.address = str


def name_no_database() -> None:
    """A person may purge a queue of another database than the one in mind."""
    session: Any = options.Session
    session.announce = lambda *_: None


def cut_long_words_anywhere() -> None:
    """A number in a long line of JSON is shown as two."""
    from durableq.cli import screen

    module: Any = screen
    module._broken = tables.chop


BUGS = (show_the_password_of_a_database, name_no_database, cut_long_words_anywhere)
_TESTS = "tests/cli/test_terminal.py::"
SEEN_BY = (
    ("show_the_password_of_a_database", _TESTS + "test_a_password_is_not_shown"),
    ("name_no_database", _TESTS + "test_text_output_names_its_database_once"),
    (
        "cut_long_words_anywhere",
        _TESTS + "test_a_line_is_broken_between_words_and_never_in_a_number",
    ),
)
