"""Rules files: their meaning, and each error with its line and path."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.errors import InvalidInput
from durableq.recovery.rule_values import keys_of
from durableq.recovery.rules import Action
from durableq.recovery.rules_file import lines_of, parse, read

GOOD = '''\
# every field
[breaker]
window = 30
cool_down = 0.5

[[rule]]
name = "the bank was down"
when.queue = ["orders",
              "refunds"]      # two lines
when.error_type = "TimeoutError"
when.recoveries_below = 2
then = "requeue"
delay = 30
limit = 2
reason = """the bank
was down"""

[[rule]]
then = "retry"
set.amount = 10_000
set.customer.note = "charged in part"
remove = ["discount", 'lines.0."per.cent"']
[rule.when]
queue = "orders"
body = { customer.vip = true, amount = 20_000 }
body_matches."e.mail" = '@example\\.com$'
'''


def test_every_field_is_read() -> None:
    rules = parse(GOOD, "r.toml")
    first, second = rules.rules
    assert (rules.thresholds.window, rules.thresholds.cool_down) == (30, 0.5)
    assert rules.queues == ("orders", "refunds")
    assert (first.label, first.line, second.label, second.line) == (
        'rule "the bank was down"', 6, "rule 2", 18
    )  # fmt: skip
    assert (first.then, first.delay, first.limit) == (Action.REQUEUE, 30, 2)
    assert first.reason == "the bank\nwas down"
    assert (first.when.queue, first.when.error_type) == (("orders", "refunds"), ("TimeoutError",))
    assert first.when.recoveries_below == 2
    assert second.set == ((("amount",), 10_000), (("customer", "note"), "charged in part"))
    assert second.remove == (("discount",), ("lines", "0", "per.cent"))
    assert second.when.body == ((("customer", "vip"), True), (("amount",), 20_000))
    assert [(path, pattern.text) for path, pattern in second.when.body_matches] == [
        (("e.mail",), r"@example\.com$")
    ]


MISTAKES = [
    ("", 1, "rule: it holds no [[rule]]"),
    ("a =", 1, "Invalid value (at end of document). It is not TOML"),
    ("\n\n[[rule]\n", 3, "Expected ']]' at the end of an array declaration. It is not TOML"),
    ("\n[rule]\nthen='hold'", 2, "rule: rules are tables, each begun by [[rule]]"),
    ("rule=[1]", 1, "rule: rules are tables, each begun by [[rule]]"),
    ("rule=[]", 1, "rule: it holds no [[rule]]"),
    ("[[rule]]\nthen='hold'\n[brake]\n", 3,
     "brake: unknown field 'brake' (did you mean 'breaker'?); there are rule and breaker"),
    ("[[rule]]\n\nthen='hold'\nquue='x'", 4, "rule[1].quue: unknown field 'quue'"),
    ("[[rule]]\nthen='hold'\nwhen.quue='x'", 3,
     "rule[1].when.quue: unknown field 'quue' (did you mean 'queue'?); there are queue, reason"),
    ("[[rule]]\nthen='hold'\nwhen='x'", 3, "rule[1].when: it must be a table, not 'x'"),
    ("\n[[rule]]\nname='x'", 2, "rule[1].then: the rule does not say what then; there are"),
    ("[[rule]]\nthen='drop'", 2,
     "rule[1].then: it must be 'discard', 'retry', 'requeue' or 'hold', not 'drop'"),
    ("[[rule]]\nthen=['hold']", 2, "rule[1].then: it must be 'discard'"),
    ("[[rule]]\nthen='retry'", 2, "rule[1].then: a retry changes the body"),
    ("[[rule]]\nthen='requeue'\nset.a=1", 3, 'rule[1].set: set goes with then = "retry"'),
    ("[[rule]]\nthen='discard'\ndelay=1", 3,
     "rule[1].delay: delay goes with a rule that sends messages back"),
    ("[[rule]]\nthen='hold'\nlimit=1", 3, "rule[1].limit: limit goes with a rule that sends"),
    ("[[rule]]\nthen='requeue'\nlimit=0", 3,
     "rule[1].limit: it must be greater than or equal to 1, not 0"),
    ("[[rule]]\nthen='requeue'\nlimit=true", 3, "it must be a valid integer, not True"),
    ("[[rule]]\nthen='requeue'\ndelay='1h'", 3, "delay: it must be a valid number, not '1h'"),
    ("[[rule]]\nthen='requeue'\ndelay=-1", 3, "delay: it must be greater than or equal to 0"),
    ("[[rule]]\nthen='requeue'\ndelay=1e12", 3, "delay: it must be less than or equal to"),
    ("[[rule]]\nthen='requeue'\ndelay=nan", 3, "delay: it must be a finite number, not nan"),
    ("[[rule]]\nthen='hold'\nname='a\"b'", 3, "name: it must be printable characters"),
    ("[[rule]]\nthen='hold'\nname=''", 3, "name: it must have at least 1 character, not ''"),
    ("[[rule]]\nthen='hold'\nreason=7", 3, "reason: it must be a valid string, not 7"),
    ("[[rule]]\nthen='hold'\n[rule.when]\nmessage='('", 4,
     "rule[1].when.message: '(' is not a regular expression: missing )"),
    ("[[rule]]\nthen='hold'\nwhen.message=7", 3, "it must be a regular expression in quotes"),
    ("[[rule]]\nthen='hold'\nwhen.body_matches.a='*'", 3,
     "rule[1].when.body_matches.a: '*' is not a regular expression: nothing to repeat"),
    ("[[rule]]\nthen='hold'\nwhen.message='\\p{L}'", 3, "is not a regular expression: bad escape"),
    ("[[rule]]\nthen='hold'\nwhen.body_matches={}", 3, "it names no field"),
    ("[[rule]]\nthen='hold'\nwhen.body=3", 3, "rule[1].when.body: it must be a table, not 3"),
    ("[[rule]]\nthen='hold'\nwhen.body.a.b={}", 3,
     "rule[1].when.body.a.b: a field is compared with a value, not a table"),
    ("[[rule]]\nthen='hold'\nwhen.body.a=1979-05-27", 3, "a body is JSON and cannot hold"),
    ("[[rule]]\nthen='retry'\nset.a=nan", 3, "rule[1].set.a: a body is JSON and cannot hold nan"),
    ("[[rule]]\nthen='retry'\nset={}", 3, "set: it names no field"),
    ("[[rule]]\nthen='retry'\nremove=['a b']", 3, "fields are named as TOML's keys are"),
    ("[[rule]]\nthen='retry'\nremove=[]", 3, "remove: it must be a string, or a list of strings"),
    ("[[rule]]\nthen='hold'\nwhen.reason='timout'", 3,
     "unknown reason 'timout' (did you mean 'timeout'?); there are handler_error"),
    ("[[rule]]\nthen='hold'\nwhen.queue='a b'", 3, "rule[1].when.queue: A queue's name has"),
    ("[[rule]]\nthen='hold'\nwhen.queue=[]", 3, "queue: it must be a string, or a list"),
    ("[[rule]]\nthen='hold'\nwhen.error_type=[1]", 3, "error_type: it must be a string, or"),
    ("[[rule]]\nthen='hold'\nwhen.older_than='x'", 3, "older_than: it must be a valid number"),
    ("[[rule]]\nthen='hold'\nwhen.recoveries_below=1.5", 3, "it must be a valid integer, not 1.5"),
    ("[[rule]]\nthen='hold'\n[breaker]\nshare=2", 4,
     "breaker.share: it must be less than or equal to 1, not 2"),
    ("[[rule]]\nthen='hold'\n[breaker]\nwindow='9'", 4, "breaker.window: it must be a valid int"),
    ("[[rule]]\nthen='hold'\n[breaker]\ncool_down=0", 4, "cool_down: it must be greater than 0"),
    ("[[rule]]\nthen='hold'\n[breaker]\ncooldown=1", 4,
     "breaker.cooldown: unknown field 'cooldown' (did you mean 'cool_down'?)"),
    ("[[rule]]\nthen='hold'\n[breaker]\nleast=30", 4,
     "breaker.least: least is at most window (20)"),
    ("breaker=1\n[[rule]]\nthen='hold'", 1, "breaker: it must be a table, not 1"),
    ("[[rule]]\nthen='hold'\n[[rule]]\n[rule.when]\nqueue=7", 3, "rule[2].then: the rule does"),
    ("[[rule]]\nthen='hold'\nwhen.reason='x'\n[[rule]]\nthen='hold'\nwhen.queue=7", 6,
     "rule[2].when.queue: it must be a string"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "why"), MISTAKES)
def test_an_error_names_its_line_and_path(text: str, line: int, why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text, "r.toml")
    found = [text for text in str(refused.value).splitlines() if why in text]
    assert len(found) == 1, str(refused.value)
    assert found[0].startswith(f"r.toml, line {line}: ")


NEVER = [
    ("when.queue='a'", "", "rule 1 (line 1) takes every dead letter before it"),
    ("when.queue='a'", "when.queue=['b','a']", "takes every dead letter"),
    ("when.queue='a'\nwhen.reason='timeout'", "when.reason=['timeout','rejected']", "takes every"),
    ("when.message='x'\nwhen.queue='a'", "when.message='x'", "takes every dead letter"),
    ("when.recoveries_at_least=3", "when.recoveries_at_least=2", "takes every dead letter"),
    ("when.older_than=9\nwhen.younger_than=20", "when.younger_than=30", "takes every dead letter"),
    ("when.body.a=1", "when.body.a=1.0", "takes every dead letter"),
    ("when.body.a='abc'", "when.body_matches.a='^a'", "takes every dead letter"),
    ("when.recoveries_at_least=3\nwhen.recoveries_below=3", None, "no recoveries is both"),
    ("when.older_than=60\nwhen.younger_than=60", None, "no age is both"),
    ("when.body.a=1\nwhen.body_matches.a='x'", None, "the field a cannot all be true"),
    ("when.body.a=1\nwhen.body_matches.a.b='x'", None, "the field a cannot all be true"),
    ("when.reason='expired'", None, "an expired message is removed"),
    ("when.reason='lease_expired'\nwhen.error_type='E'", None, "lease_expired has no error type"),
]


@pytest.mark.parametrize(("late", "early", "why"), NEVER)
def test_a_rule_that_can_never_match_is_named(late: str, early: str | None, why: str) -> None:
    before = "" if early is None else f"[[rule]]\nthen='hold'\n{early}\n"
    line = before.count("\n") + 1
    with pytest.raises(InvalidInput) as refused:
        parse(f"{before}[[rule]]\nthen='hold'\n{late}\n", "r.toml")
    assert str(refused.value).startswith(f"r.toml, line {line}: rule[")
    assert "it can never match: " in str(refused.value)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("then='requeue'\nlimit=1", "then='hold'"),
        ("then='hold'\nwhen.body.a=true", "then='hold'\nwhen.body.a=1"),
        ("then='hold'\nwhen.queue='a'\nwhen.reason='timeout'", "then='hold'\nwhen.queue='a'"),
        ("then='hold'\nwhen.older_than=10", "then='hold'\nwhen.older_than=5"),
        ("then='hold'\nwhen.body.a=1", "then='hold'\nwhen.body.b=1"),
    ],
)
def test_a_rule_that_may_match_after_another_is_taken(early: str, late: str) -> None:
    assert len(parse(f"[[rule]]\n{early}\n[[rule]]\n{late}\n", "r").rules) == 2


def test_all_errors_are_reported_in_order_of_their_lines() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("[[rule]]\nthen='x'\nwhen.message='('\nbad=1\n[breaker]\nwindow=0\n", "r")
    starts = [line.split(":")[0] for line in str(refused.value).splitlines()]
    assert starts == ["r, line 2", "r, line 3", "r, line 4", "r, line 6"]


SLOW = [
    'when.body.x = "{a}!"\nwhen.body_matches.x = "^(a|aa)+$"\n',
    'when.body_matches.x = "^(a|aa)+$"\n[[rule]]\nthen = "hold"\nwhen.body.x = "{a}!"\n',
]


@pytest.mark.parametrize("text", SLOW)
def test_a_pattern_that_is_too_slow_for_a_value_of_the_file_is_assumed_to_match(text: str) -> None:
    rule = '[[rule]]\nthen = "hold"\n' + text.replace("{a}", "a" * 200)
    assert parse(rule, "r.toml").rules


LONG = ".".join("abcdefghij"[n % 10] for n in range(1_100))


@pytest.mark.parametrize("begin", ["[[rule]]\n", "[breaker]\n", ""])
@pytest.mark.parametrize(
    "line",
    [
        *(
            f"{at}{LONG} = 1"
            for at in ("", "then.", "name.", "delay.", "limit.", "set.", "window.")
        ),
        *(f"when.{at}.{LONG} = 1" for at in ("body", "body_matches", "queue", "older_than")),
        f'remove = ["{LONG}"]',
    ],
    ids=lambda line: line.partition(".a.b")[0],
)
def test_a_field_with_more_names_than_any_body_has_is_refused(begin: str, line: str) -> None:
    with pytest.raises(InvalidInput, match=r"r\.toml, line \d: ") as refused:
        parse(begin + line, "r.toml")
    if not line.startswith("remove"):
        number = begin.count("\n") + 1
        assert str(refused.value).startswith(f"r.toml, line {number}: ")
        assert str(refused.value).endswith(
            "…: a field has at most 200 names, for no body is nested deeper."
        )
        assert len(str(refused.value)) < 200


def test_a_field_may_have_as_many_names_as_a_body() -> None:
    path = ".".join(["a"] * 200)
    text = f"[[rule]]\nthen='retry'\nwhen.body.{path}=1\nset.{path}=2\nremove=['{path}']\n"
    (rule,) = parse(text, "r.toml").rules
    assert len(rule.remove[0]) == 200


def test_a_name_given_twice_is_refused() -> None:
    rule = "[[rule]]\nname='a'\nthen='hold'\nwhen.queue='{}'\n"
    with pytest.raises(InvalidInput, match=r"line 6: rule\[2\]\.name: rule 1 has this name"):
        parse(rule.format("x") + rule.format("y"), "r.toml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"# fine\n\xff\n")
    for path, why in (
        (tmp_path / "none.toml", "none.toml cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (bad, "line 2: it is not UTF-8"),
    ):
        with pytest.raises(InvalidInput, match=why):
            read(path)


@pytest.mark.parametrize("text", ["a=1", "", "a b", "a\n.b", "[a]", "a.", "# a"])
def test_an_invalid_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        keys_of(text)


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), min_size=1, max_size=5)
SCALARS = st.sampled_from(
    ["1", "true",
     '"a # b"', "'[['", '"""x\n[y]\n\\""""""', "'''\n# z = 1'''", "1979-05-27 07:32:00"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(
        lambda many: "[" + ", # c ]\n".join(many) + "\n]"
    ),
    max_leaves=5,
)


def quoted(key: str) -> str:
    escaped = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in key)
    return f'"{escaped}"'


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_the_line_of_every_key_is_found(tables: dict[str, dict[str, str]]) -> None:
    text = ""
    wanted: dict[tuple[str | int, ...], int] = {}
    for number, (name, table) in enumerate(tables.items()):
        text += f"[[t]] # {name.isascii()}\n{quoted(name)}.a = 0\n"
        wanted["t", number, name] = text.count("\n")
        for key, value in table.items():
            if key != name:
                wanted["t", number, key, "x"] = text.count("\n") + 1
                text += f"{quoted(key)} . x = {value}\n"
    document: Any = tomllib.loads(text)
    assert len(document.get("t", [])) == len(tables)
    found = lines_of(text)
    assert {at: found[at] for at in wanted} == wanted
