"""Rules: the dead letters that fit, and the decisions; patches of bodies."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq import DeadLetter, Discard, Hold, Reason, Requeue, Retry
from durableq.model.message import Event, HistoryEvent, Message, State
from durableq.recovery.policies import RulePolicies
from durableq.recovery.rule_values import (
    MISSING,
    CannotPatch,
    field,
    leaves,
    patched,
    same,
    written,
)
from durableq.recovery.rules import DeadLetterFacts, Rule
from durableq.recovery.rules_file import parse

NOW = 10_000_000


class StandingClock:
    def wall_ms(self) -> int:
        return NOW

    def lease_ms(self) -> int:
        return NOW

    def boot_id(self) -> str:
        return ""

    def host_id(self) -> str:
        return ""


def event(kind: Event, **more: Any) -> HistoryEvent:
    return HistoryEvent("7", "orders", kind, 0, **({"actor": "worker 1"} | more))


BURIED = event(
    Event.BURIED, error_type="TimeoutError", error_message="bank 7 timed out"
)  # fmt: skip


def dead_letter(
    body: Any = None, *, recoveries: int = 0, history: tuple[HistoryEvent, ...] = (BURIED,)
) -> DeadLetter:
    stored = body if isinstance(body, bytes) else json.dumps({"n": 1} if body is None else body)
    message = Message(
        "7", "orders-dlq", stored, "k", None, 0, State.READY, 0, recoveries, NOW - 60_000, 0, 0, 0,
        "orders", None,
    )  # fmt: skip
    return DeadLetter(message, "orders", Reason.HANDLER_ERROR, 0, history, 9, "abc123")


def rule(when: str, then: str = "then='hold'") -> Rule:
    (found,) = parse(f"[[rule]]\n{then}\n{when}\n", "r.toml").rules
    return found


FITS = [
    "",
    "when.queue='orders'",
    "when.queue=['mail','orders']",
    "when.reason='handler_error'",
    "when.error_type=['X','TimeoutError']",
    "when.message='bank \\d+ timed'",
    "when.fingerprint='abc123'",
    "when.older_than=60\nwhen.younger_than=61",
    "when.recoveries_at_least=1\nwhen.recoveries_below=2",
    "when.body.n=1",
    "when.body.n=1.0",
    "when.body.to.mail='a@b'\nwhen.body.to.tags=['x', true]",
    "when.body.to.tags.1=true",
    "when.body_matches.to.mail='^a@'",
    "when.body_matches.n='^1$'",
]
MISSES = [
    ("when.queue='mail'", 'its queue is "orders", not mail'),
    ("when.reason='timeout'", 'its reason is "handler_error", not timeout'),
    ("when.error_type='KeyError'", 'its error type is "TimeoutError", not KeyError'),
    ("when.message='^timed'", 'its message "bank 7 timed out" does not match ^timed'),
    ("when.fingerprint='abc'", 'its fingerprint is "abc123", not abc'),
    ("when.older_than=3600", "it was sent 1 min ago, under 1 h"),
    ("when.younger_than=60", "it was sent 1 min ago, not under 1 min"),
    ("when.recoveries_below=1", "it was recovered 1 times, not under 1"),
    ("when.recoveries_at_least=2", "it was recovered 1 times, under 2"),
    ("when.body.n=true", "n in its body is 1, not true"),
    ("when.body.x.y=1", "its body has no field x.y"),
    ("when.body.to.tags.2=true", "its body has no field to.tags.2"),
    ("when.body_matches.to='a'", 'to in its body is {"mail": "a@b", "tags": ["x", true]}, not a'),
]  # fmt: skip
BODY = {"n": 1, "to": {"mail": "a@b", "tags": ["x", True]}}


@pytest.mark.parametrize("when", FITS)
def test_a_dead_letter_fits(when: str) -> None:
    assert rule(when).mismatch(DeadLetterFacts(dead_letter(BODY, recoveries=1), NOW)) is None


@pytest.mark.parametrize(("when", "why"), MISSES)
def test_a_dead_letter_does_not_fit_and_why(when: str, why: str) -> None:
    assert rule(when).mismatch(DeadLetterFacts(dead_letter(BODY, recoveries=1), NOW)) == why


def test_a_body_that_cannot_be_read_has_no_fields() -> None:
    broken = dead_letter()
    broken = DeadLetter(
        broken.message._replace(body="{cut"), "orders", Reason.UNDECODABLE, 0, (BURIED,), 9
    )
    why = "its body has no field n"
    assert rule("when.body.n=1").mismatch(DeadLetterFacts(broken, NOW)) == why
    assert rule("when.body_matches.n='1'").mismatch(DeadLetterFacts(dead_letter(b"n"), NOW)) == why
    retried = rule("", "then='retry'\nset.n=2").decision(broken)
    assert isinstance(retried, Hold)
    assert "its patch cannot be applied: The stored body is not JSON" in retried.reason


def test_each_action_makes_its_decision() -> None:
    named = "name='x'\nreason='no use'\n"
    assert rule("", f"{named}then='discard'").decision(dead_letter()) == Discard('rule "x": no use')
    assert rule("", "then='hold'").decision(dead_letter()) == Hold("rule 1")
    assert rule("", "then='requeue'\ndelay=5").decision(dead_letter()) == Requeue("rule 1", 5)
    retry = rule("", "then='retry'\nset.n=2\nremove=['a']").decision(dead_letter({"n": 1, "a": 2}))
    assert retry == Retry({"n": 2}, "rule 1", 0)
    assert rule("", "then='retry'\nset.n=2").decision(dead_letter(b"x")) == Hold(
        "rule 1: its patch cannot be applied: the body is bytes, which have no fields"
    )


def test_a_rule_counts_the_dead_letters_that_it_sent_back() -> None:
    ours = event(Event.REQUEUED, actor="recovery:9", reason='rule "x": calm now')
    others = (
        event(Event.REQUEUED, actor="recovery:9", reason='rule "xy"'),
        event(Event.REQUEUED, actor="person (me)", reason='rule "x"'),
        event(Event.HELD, actor="recovery:9", reason='rule "x"'),
        event(Event.RETRIED, actor="recovery:9", reason='rule "x" or so'),
    )
    limited = rule("", "name='x'\nthen='requeue'\nlimit=2")
    assert (
        limited.mismatch(DeadLetterFacts(dead_letter(history=(ours, *others, BURIED)), NOW)) is None
    )
    twice = dead_letter(history=(ours, ours, BURIED))
    assert limited.mismatch(DeadLetterFacts(twice, NOW)) == (
        "it sent this message back 2 times already, and its limit is 2"
    )


THREE = """
[[rule]]
when.error_type = "KeyError"
then = "discard"
[[rule]]
name = "again"
when.message = "timed out"
then = "requeue"
[[rule]]
when.message = "out"
then = "hold"
"""


def test_the_first_rule_that_fits_decides_and_the_others_say_why_not() -> None:
    policies = RulePolicies(parse(THREE, "r.toml"), StandingClock())
    decided = policies.decide(dead_letter())
    assert decided.decision == Requeue('rule "again"')
    assert decided.by == 'rule "again" (line 5) of r.toml'
    assert [(r.number, why) for r, why in decided.passed_over] == [
        (1, 'its error type is "TimeoutError", not KeyError')
    ]
    spent = policies.decide(dead_letter(recoveries=9))
    assert spent.decision == Hold("recovered 9 times already, without success")


def test_no_rule_means_hold() -> None:
    policies = RulePolicies(parse(THREE, "r.toml"), StandingClock())
    decided = policies.decide(dead_letter(history=()))
    assert (decided.decision, decided.by) == (Hold("no rule fits"), "no rule of r.toml")
    assert len(decided.passed_over) == 3


def test_a_pattern_that_is_too_slow_holds_the_dead_letter() -> None:
    slow = parse("[[rule]]\nwhen.message='^(a|aa)+$'\nthen='requeue'\n", "r.toml")
    killed = event(Event.BURIED, error_message="a" * 200 + "b")
    decided = RulePolicies(slow, StandingClock()).decide(dead_letter(history=(killed,)))
    assert decided.decision == Hold(
        "the patterns of the rules are too slow for this dead letter: it took longer than 1 s"
    )


# ---- patches

NAMES = st.sampled_from(["a", "b", "c.d", "0", "1"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(JSON, PATHS, JSON)
def test_a_set_field_is_there_and_the_body_is_not_changed_in_place(
    body: Any, path: tuple[str, ...], value: Any
) -> None:
    before = copy.deepcopy(body)
    try:
        changed = patched(body, [(path, value)])
    except CannotPatch:
        assert field(body, path) is MISSING
    else:
        assert same(field(changed, path), value)
        json.dumps(changed)
    assert body == before


@given(JSON, PATHS)
def test_a_removed_field_is_gone_and_removing_a_missing_one_changes_nothing(
    body: Any, path: tuple[str, ...]
) -> None:
    changed = patched(body, remove=[path])
    found, owner_id = field(body, path), field(body, path[:-1])
    if found is MISSING:
        assert changed == body
    elif isinstance(owner_id, dict):
        assert field(changed, path) is MISSING
    else:
        assert len(field(changed, path[:-1])) == len(owner_id) - 1


@given(JSON)
def test_leaves_build_an_object_again(body: Any) -> None:
    if isinstance(body, dict):
        assert same(patched({}, leaves(body)), body)


def test_true_is_not_one() -> None:
    assert not same({"a": [True]}, {"a": [1]})
    assert same({"a": [1.0, None, "x"]}, {"a": [1, None, "x"]})
    assert not same([1], [1, 2])
    assert written(("a-b", "0", "c.d")) == 'a-b.0."c.d"'


# ---- properties of whole files


@given(
    st.lists(st.sampled_from(["TimeoutError", "KeyError", "X"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["bank", "timed", "nothing"]), min_size=1, max_size=4),
)
def test_the_first_rule_that_fits_wins(types: list[str], patterns: list[str]) -> None:
    text, fits = "", []
    for number, (error_type, pattern) in enumerate(
        dict.fromkeys(zip(types, patterns, strict=False)), 1
    ):
        text += f"[[rule]]\nthen='requeue'\nlimit=9\nreason='{number}'\n"
        text += f"when.error_type='{error_type}'\nwhen.message='{pattern}'\n"
        if error_type == "TimeoutError" and pattern != "nothing":
            fits.append(number)
    decided = RulePolicies(parse(text, "r"), StandingClock()).decide(dead_letter())
    assert len(decided.passed_over) == (fits[0] - 1 if fits else text.count("[[rule]]"))
    if fits:
        assert decided.decision == Requeue(f"rule {fits[0]}: {fits[0]}")
    else:
        assert isinstance(decided.decision, Hold)
