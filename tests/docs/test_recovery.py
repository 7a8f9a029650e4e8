"""docs/RECOVERY.md works as written: its rules parse, its policy decides, its tables are whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from durableq import Decision, Discard, DurableQ, Hold, Requeue, Retry
from durableq.model.message import Reason
from durableq.recovery.circuit_breaker import DEFAULT_THRESHOLDS
from durableq.recovery.policies import AppPolicies, Policies, RulePolicies
from durableq.recovery.rules_file import FIELDS, json_schema, parse
from durableq.runtime.clock import SystemClock
from durableq.store.core import Capability

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "RECOVERY.md").read_text()
ORDER = {"amount": 20_000, "discount": 5, "customer": {"trusted": True, "country": "CH"}}


def block(name: str, language: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def rows(header: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    table = TEXT.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def names(header: str) -> set[str]:
    return {name for row in rows(header) for name in re.findall(r"`(\w+)`", row[0])}


def test_the_tables_name_every_field_and_no_other() -> None:
    assert names("field of `when`") == set(FIELDS["when"])
    assert names("field of a rule") | {"when"} == set(FIELDS["rule"])
    told = {row[0].strip("`"): float(row[1]) for row in rows("`[breaker]`")}
    assert told == {name: float(getattr(DEFAULT_THRESHOLDS, name)) for name in FIELDS["breaker"]}
    assert all(f"`{reason}`" in TEXT for reason in Reason)


def test_the_example_fits_the_schema_for_editors() -> None:
    Draft202012Validator(json_schema()).validate(tomllib.loads(block("rules", "toml")))
    assert block("rules", "toml").startswith("#:schema ./recovery.schema.json\n")


CASES: list[tuple[BaseException | str, object, type[Decision], type[Decision]]] = [
    (TimeoutError("slow"), ORDER, Requeue, Requeue),
    (ValueError("over the limit of 10"), ORDER, Retry, Retry),
    (ValueError("over the limit of 10"), ORDER | {"customer": {}, "amount": 1}, Hold, Hold),
    (KeyError("amount"), ORDER, Hold, Discard),
]


@pytest.mark.parametrize(("error", "body", "by_rules", "by_python"), CASES)
def test_the_examples_decide(
    error: BaseException, body: object, by_rules: type, by_python: type
) -> None:
    rules = RulePolicies(parse(block("rules", "toml"), "recovery.toml"), SystemClock())
    scope: dict[str, object] = {}
    exec(compile(block("python", "python"), "RECOVERY.md", "exec"), scope)
    example = scope["dq"]
    assert isinstance(example, DurableQ)
    with DurableQ("memory://") as dq:
        orders = dq.queue("orders", max_receives=1)
        orders.send(body)
        orders.receive()[0].fail(error)
        check(dq, rules, by_rules)
        check(dq, AppPolicies(example.policies), by_python)


def check(dq: DurableQ, policies: Policies, kind: type) -> None:
    (message,) = dq.store.require(Capability.INSPECT).peek("orders-dlq", 10)
    dead_letter = dq.store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
    assert dead_letter is not None
    decision = policies.decide(dead_letter).decision
    assert type(decision) is kind
    if isinstance(decision, Retry):
        assert decision.body["amount"] == 10_000
