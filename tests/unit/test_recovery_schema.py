"""The JSON Schema of rules files: it accepts good files and refuses bad ones, as `parse` does."""

from __future__ import annotations

import json
import tomllib

import pytest
from jsonschema import Draft202012Validator

from durableq.model.errors import InvalidInput
from durableq.recovery.rules_file import FIELDS, json_schema, parse

SCHEMA = json_schema()
VALID = Draft202012Validator(SCHEMA)

GOOD = [
    "[[rule]]\nthen='hold'",
    "[[rule]]\nthen='retry'\nset.a.b=[1, {c=true}]",
    "[[rule]]\nthen='retry'\nremove='a'\nlimit=2\ndelay=0.5\nname='x'\nreason='y'",
    "[[rule]]\nthen='requeue'\nwhen.queue=['a','b']\nwhen.reason='timeout'\nwhen.older_than=1",
    "[[rule]]\nthen='hold'\nwhen.body_matches.a.b='^x'\nwhen.body.a.c=1\nwhen.message='x'",
    "[[rule]]\nthen='discard'\nwhen.recoveries_at_least=1\nwhen.recoveries_below=3",
    "[[rule]]\nthen='hold'\n[breaker]\nwindow=30\nshare=1\ncool_down=0.5\nprobes=1",
]
BAD = [
    "", "rule=1", "rule=[]", "[[rule]]\nname='x'", "[[rule]]\nthen='drop'",
    "[[rule]]\nthen='hold'\nquue=1", "[[rule]]\nthen='hold'\nwhen.quue=1", "[brake]",
    "[[rule]]\nthen='hold'\nset.a=1", "[[rule]]\nthen='retry'", "[[rule]]\nthen='hold'\nlimit=1",
    "[[rule]]\nthen='retry'\nset={}", "[[rule]]\nthen='discard'\ndelay=1",
    "[[rule]]\nthen='requeue'\nremove='a'", "[[rule]]\nthen='requeue'\nlimit=0",
    "[[rule]]\nthen='hold'\nwhen.queue=[]", "[[rule]]\nthen='hold'\nwhen.queue='a b'",
    "[[rule]]\nthen='hold'\nwhen.reason='crash'", "[[rule]]\nthen='hold'\nwhen.body=1",
    "[[rule]]\nthen='hold'\nwhen.body_matches.a=1", "[[rule]]\nthen='hold'\nwhen.older_than=-1",
    "[[rule]]\nthen='hold'\nname=''", "[[rule]]\nthen='hold'\n[breaker]\nshare=2",
]  # fmt: skip


def test_the_schema_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


@pytest.mark.parametrize("text", GOOD)
def test_the_schema_accepts_good_rules(text: str) -> None:
    VALID.validate(tomllib.loads(text))
    assert parse(text, "r.toml").rules


@pytest.mark.parametrize("text", BAD)
def test_the_schema_refuses_bad_rules(text: str) -> None:
    assert not VALID.is_valid(tomllib.loads(text))
    with pytest.raises(InvalidInput):
        parse(text, "r.toml")


def test_every_field_is_described() -> None:
    tables = SCHEMA["$defs"]
    for name in ("rule", "when", "breaker"):
        described = tables[name.capitalize()]["properties"]
        assert all(described[field].get("description") for field in FIELDS[name])
