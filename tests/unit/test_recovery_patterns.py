"""Regular expressions: the meaning that `re` gives them, and a time limit in any thread."""

from __future__ import annotations

import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.recovery.rule_values import Pattern, TimeLimit
from tests.support import scaled

SLOW = Pattern.compile("^(a|aa)+$")
LONG = "a" * 200 + "!"


def search(pattern: str, text: str) -> bool:
    return TimeLimit().search(Pattern.compile(pattern), text)


def search_with_re(pattern: str, text: str) -> bool:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return re.search(pattern, text) is not None


# `regex` reads the braces as fuzzy matching, and the brackets as a POSIX class.
READ_LITERALLY = [
    ("a{e}", ["a{e}", "b", "a"]),
    ("(?:bank){s<=1}", ["bank{s<=1}", "bunk"]),
    ("a{}", ["a{}", "a"]),
    ("a{,}b", ["b", "aab", "a{,}b"]),
    ("a{2}", ["aa", "a{2}"]),
    ("{i}", ["{i}", "x"]),
    ("[[:alpha:]]", ["b", "a]", ":]"]),
    ("[]{e}[]+", ["[", "x"]),
    (r"[^\]\[]", ["]", "x"]),
    (r"\N{BULLET}{e}", ["\u2022{e}", "x"]),
    (r"\{e}", ["{e}", "x"]),
]


@pytest.mark.parametrize(("pattern", "texts"), READ_LITERALLY)
def test_a_pattern_has_the_meaning_of_re(pattern: str, texts: list[str]) -> None:
    for text in texts:
        assert search(pattern, text) is search_with_re(pattern, text), text


ATOMS = st.sampled_from(
    ["a", "b", ".", "^", "$", r"\d", r"\w", r"\s", r"\b", "[ab]", "[^a]", "[a-c.{]", "{", "}",
     "{e}", r"\.", "(?i:A)", "(?=a)", "(?!b)", "(?<=a)", r"\Z", r"\A", "\n", "1", "é"]
)  # fmt: skip
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{,1}", "*?", "{1,2}"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)
FLAGS = st.sampled_from(["", "(?i)", "(?m)", "(?s)", "(?a)", "(?ims)"])
TEXTS = st.text(st.sampled_from("abcA1 .{}e\né"), max_size=8)


@given(FLAGS, PATTERNS, TEXTS)
def test_regex_and_re_agree(flags: str, pattern: str, text: str) -> None:
    assert search(flags + pattern, text) is search_with_re(flags + pattern, text)


@pytest.mark.parametrize("pattern", ["(", "*", "a**", r"\p{L}", "(?|a|b)", "(?V1)a", "(?<=a+)b"])
def test_a_pattern_that_re_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a regular expression"):
        Pattern.compile(pattern)


def catastrophe() -> str:
    with pytest.raises(TimeoutError) as stopped:
        TimeLimit(0.2).search(SLOW, LONG)
    return str(stopped.value)


def test_a_catastrophic_pattern_ends_in_time_in_any_thread() -> None:
    began = time.monotonic()
    assert catastrophe() == "it took longer than 0.2 s"
    with ThreadPoolExecutor(2) as threads:
        texts = [threads.submit(catastrophe).result() for _ in range(2)]
    assert texts == ["it took longer than 0.2 s"] * 2
    assert time.monotonic() - began < scaled(20)


def test_searches_share_one_time_limit() -> None:
    limit = TimeLimit(0.2)
    with pytest.raises(TimeoutError):
        limit.search(SLOW, LONG)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        limit.search(SLOW, LONG)
    assert time.monotonic() - began < scaled(5)


def test_patterns_of_the_same_text_are_equal() -> None:
    assert Pattern.compile("a") == Pattern.compile("a")
    assert Pattern.compile("a") != Pattern.compile("b")
