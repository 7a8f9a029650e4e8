"""`recover --policy`, `--dry-run` and `dlq explain`: their output and their refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from durableq.model.flow.breaker import Phase
from durableq.recovery.circuit_breaker import METADATA_PREFIX, BreakerState
from durableq.recovery.rules_file import json_schema
from tests.cli.console import Run, Shop

RULES = """\
[[rule]]
name = "hopeless"
when.error_type = "KeyError"
then = "discard"
reason = "no use"

[[rule]]
name = "smaller"
when.message = "^too much"
when.recoveries_below = 2
then = "retry"
set.amount = 10
remove = ["tip"]
delay = 60

[[rule]]
when.body.amount = 7
then = "requeue"
"""
APP = """
from durableq import Discard, DurableQ, Requeue

dq = DurableQ()

@dq.recovery("orders")
def decide(letter):
    return Requeue("again") if letter.body == "bad" else Discard("no use")
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "recovery.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def dead(shop: Shop) -> list[str]:
    """Return a dead letter for each rule, and one that fits none."""
    return [
        shop.bury({"amount": 1}, KeyError("amount")),
        shop.bury({"amount": 99, "tip": 1}, ValueError("too much: 99")),
        shop.bury({"amount": 7}, ValueError("odd")),
        shop.bury({"amount": 8}, ValueError("odd")),
    ]


def test_a_dry_run_names_the_rule_and_its_line_and_changes_nothing(
    run: Run, shop: Shop, dead: list[str], policy: Path
) -> None:
    shown = run("recover", "--policy", policy.name, "--dry-run")
    assert (shown.code, shown.said) == (0, "Would decide: 1 discard, 1 hold, 1 requeue, 1 retry.\n")
    assert [" ".join(line.split()) for line in shown.lines] == [
        f'discard {dead[0]} of orders: rule "hopeless": no use '
        '[rule "hopeless" (line 1) of recovery.toml]',
        f'retry {dead[1]} of orders: rule "smaller" [rule "smaller" (line 7) of recovery.toml]',
        f"requeue {dead[2]} of orders: rule 3 [rule 3 (line 16) of recovery.toml]",
        f"hold {dead[3]} of orders: no rule fits [no rule of recovery.toml]",
    ]
    assert shop.dead_ids() == dead
    assert shop.store.workers() == []
    as_json = run("recover", "--policy", policy, "--dry-run", "--json")
    documents = [json.loads(line) for line in as_json.lines]
    assert [document["outcome"] for document in documents] == [None] * 4
    assert documents[1]["body"] == {"amount": 10}
    assert documents[1]["delay"] == 60
    assert documents[1]["by"] == f'rule "smaller" (line 7) of {policy}'


def test_a_dry_run_with_an_application_names_its_function(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "recovering_shop.py").write_text(APP)
    message_id = shop.bury("bad")
    shown = run("recover", "--app", "recovering_shop:dq", "--dry-run")
    assert (
        shown.out == f"requeue  {message_id:>6} of orders: again [policy recovering_shop.decide]\n"
    )
    told = run("dlq", "explain", message_id, "--app", "recovering_shop:dq")
    assert told.lines == [
        f"requeue dead letter {message_id} of orders, by policy recovering_shop.decide: again"
    ]


def test_a_dry_run_makes_no_queue_of_the_application(run: Run, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "a_bank.py").write_text(APP.replace('"orders"', '"bank"'))
    message_id = shop.bury("bad")
    assert run("recover", "--app", "a_bank:dq", "--dry-run").said == "Would decide: nothing.\n"
    told = run("dlq", "explain", message_id, "--app", "a_bank:dq")
    assert "no policy for this queue" in told.out
    assert told.lines[-1] == "Recovery would not meet it: nothing here is for queue 'orders'."
    assert [info.name for info in shop.store.queues()] == ["orders", "orders-dlq"]


def test_rules_are_applied(run: Run, shop: Shop, dead: list[str], policy: Path) -> None:
    done = run("recover", "--policy", policy, "--once", "--json", "--queue", "orders")
    documents = [json.loads(line) for line in done.lines]
    assert [(d["id"], d["decision"], d["outcome"]) for d in documents] == [
        (dead[0], "discard", "done"),
        (dead[1], "retry", "done"),
        (dead[2], "requeue", "done"),
        (dead[3], "hold", "done"),
    ]
    assert shop.bodies() == [{"amount": 10}, {"amount": 7}]
    assert shop.dead_ids() == [dead[3]]
    assert run("recover", "--policy", policy, "--once").said == "Decided: nothing.\n"
    assert (
        "It is held: recovery leaves it to a person."
        in run("dlq", "explain", dead[3], "--policy", policy).lines
    )


def test_explain_says_why_the_earlier_rules_do_not_fire(
    run: Run, dead: list[str], policy: Path
) -> None:
    told = run("dlq", "explain", dead[2], "--policy", policy.name)
    assert (told.code, told.lines) == (
        0,
        [
            f"requeue dead letter {dead[2]} of orders, "
            "by rule 3 (line 16) of recovery.toml: rule 3",
            'Not rule "hopeless" (line 1): its error type is "ValueError", not KeyError.',
            'Not rule "smaller" (line 7): its message "odd" does not match ^too much.',
        ],
    )
    retried = run("dlq", "explain", dead[1], "--policy", policy.name).lines
    assert "It would be ready 1 min later." in retried
    assert 'Its body would be {"amount": 10}' in retried
    document: dict[str, Any] = run("dlq", "explain", dead[3], "--policy", policy, "--json").json
    assert (document["decision"], document["rule"], document["breaker"]) == ("hold", None, None)
    assert [rule["line"] for rule in document["passed_over"]] == [1, 7, 16]
    assert document["passed_over"][2]["why"] == "amount in its body is 8, not 7"
    missing = run("dlq", "explain", "999", "--policy", policy)
    assert (missing.code, missing.out) == (3, "")


def test_explain_says_that_rules_for_another_queue_do_not_meet_a_dead_letter(
    run: Run, shop: Shop, policy: Path
) -> None:
    shop.dq.queue("mail")
    message_id = shop.bury("bad")
    policy.write_text('[[rule]]\nwhen.queue = "mail"\nthen = "hold"\n')
    assert run("recover", "--policy", policy, "--dry-run").out == ""
    told = run("dlq", "explain", message_id, "--policy", policy)
    assert told.lines[-1] == "Recovery would not meet it: nothing here is for queue 'orders'."
    explain = ("dlq", "explain", message_id, "--policy", policy, "--json")
    assert run(*explain).json["met"] is False
    policy.write_text(policy.read_text().replace("mail", "orders"))
    assert run(*explain).json["met"] is True


def test_an_open_breaker_is_reported_and_sends_nothing_back(
    run: Run, shop: Shop, dead: list[str], policy: Path
) -> None:
    now_ms = shop.store.dead_letter(dead[3]).died_at_ms
    opened = BreakerState(Phase.OPEN, now_ms, 1, now_ms + 600_000, died=11, judged=20)
    shop.store.compare_and_set(METADATA_PREFIX + "orders", opened.to_json(), expected=None)
    words = (
        "The breaker of orders is open: 11 of 20 messages that recovery sent back died again; "
        "nothing is sent back until it probes."
    )
    assert words in run("dlq", "explain", dead[2], "--policy", policy).lines
    assert words not in run("dlq", "explain", dead[0], "--policy", policy).lines
    assert run("dlq", "explain", dead[0], "--policy", policy, "--json").json["breaker"] == words
    assert words in run("recover", "--policy", policy, "--dry-run").err
    done = run("recover", "--policy", policy, "--once")
    assert done.said == "Decided: 1 discard, 1 hold.\n"
    left = shop.store.peek("orders-dlq", 10)
    assert [message.state.label for message in left] == ["ready", "ready", "delayed"]


def test_bad_rules_are_refused_before_anything_is_touched(
    run: Run, shop: Shop, dead: list[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[[rule]]\nthen = 'hold'\n\n[[rule]]\nthen = 'dorp'\nwhen.message = '('\n")
    commands = (["recover", "--once"], ["recover", "--dry-run"], ["dlq", "explain", dead[0]])
    for command in commands:
        shown = run(*command, "--policy", "bad.toml")
        assert (shown.code, shown.out) == (2, "")
        assert shown.err.splitlines()[0].startswith(
            "durableq: bad.toml, line 5: rule[2].then: it must be"
        )
        assert "bad.toml, line 6: rule[2].when.message: '(' is not a regular" in shown.err
        assert "recovery.toml cannot be read" in run(*command, "--policy", "no/recovery.toml").err
    assert shop.dead_ids() == dead


def test_rules_for_an_unknown_queue_are_refused(run: Run, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[[rule]]\nwhen.queue = 'ordes'\nthen = 'hold'\n")
    shown = run("recover", "--policy", "r.toml", "--once")
    assert (shown.code, shown.out) == (2, "")
    assert "r.toml, line 1: rule[1].when.queue: it can never match: " in shown.err
    assert "there is no queue 'ordes' in this database" in shown.err
    other = run("recover", "--policy", "r.toml", "--queue", "orders")
    assert (other.code, other.out) == (2, "")
    assert "No rule is for queue 'orders'; they are for: ordes." in other.err


def test_options_that_make_no_sense_together_are_refused(
    run: Run, shop: Shop, policy: Path
) -> None:
    for command in (["recover"], ["dlq", "explain", "1"]):
        both = run(*command, "--policy", policy, "--app", "shop:dq")
        assert (both.code, both.out) == (2, "")
        assert "Name --policy or --app, not both" in both.err
    for rate in ("0", "-1", "nan", "inf"):
        shown = run("recover", "--policy", policy, "--rate", rate)
        assert (shown.code, shown.out) == (2, "")
        assert "A rate is a number over 0" in shown.err


def test_no_database_is_made_for_rules(run: Run, policy: Path, tmp_path: Path) -> None:
    for command in (["recover", "--once"], ["dlq", "explain", "1"]):
        shown = run(*command, "--policy", policy)
        assert (shown.code, shown.out) == (3, "")
        assert "There is no database at durableq.db" in shown.err
    assert not (tmp_path / "durableq.db").exists()


def test_rules_without_a_queue_apply_to_every_queue(
    run: Run, shop: Shop, policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "all.toml").write_text("[[rule]]\nthen = 'discard'\n")
    other = Shop(shop.path, "mail")
    ids = [shop.bury("b"), other.bury("c")]
    shown = run("recover", "--policy", "all.toml", "--once", "--json")
    assert sorted(json.loads(line)["id"] for line in shown.lines) == sorted(ids)
    assert {json.loads(line)["queue"] for line in shown.lines} == {"orders", "mail"}
    other.dq.close()


def test_commentary_can_be_lines_of_json(run: Run, shop: Shop) -> None:
    shown = run("recover", "--once", "--log-format", "json", "--db", "durableq.db")
    assert shown.code == 0
    (told,) = [json.loads(line) for line in shown.err.splitlines()]
    assert (told["event"], told["process"]) == ("decided", "recovery")
    assert told["text"] == "Decided: nothing."


def test_the_schema_of_rules_files_is_printed_without_a_database(run: Run) -> None:
    shown = run("recover", "--schema")
    assert (shown.code, shown.err) == (0, "")
    assert shown.json == json_schema()
