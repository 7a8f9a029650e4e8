"""The decisions that recovery would make: about one dead letter, and in a dry run over many."""

from pathlib import Path

import pytest

from durableq import DurableQ, Hold, InvalidInput, Requeue, Retry
from durableq.dashboard import dashboard, rules
from durableq.model.flow.breaker import Phase
from durableq.recovery.circuit_breaker import METADATA_PREFIX, BreakerState
from durableq.store.core import Capability
from tests.dashboard.client import Client
from tests.dashboard.test_actions import bury
from tests.dashboard.test_escaping import CORPUS, check

RULES = """\
[[rule]]
name = "<b>small</b>"
then = "discard"
reason = "too <i>small</i>"
[rule.when]
queue = "orders"
body = {n = 0}

[[rule]]
name = "network"
then = "retry"
set = {n = 10}
delay = 5
[rule.when]
queue = "orders"
error_type = "ValueError"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "rules.toml"
    found.write_text(RULES)
    return found


def test_the_page_of_a_dead_letter_names_the_rule(either: DurableQ, path: Path) -> None:
    one, two = bury(either, 2)
    with Client.of(either, rules=path) as client:
        page = client.page(f"/messages/{one}")
        assert f'discard, by rule "<b>small</b>" (line 1) of {path}' in page.text
        page = client.page(f"/messages/{two}")
        assert f'retry, by rule "network" (line 9) of {path}: rule "network"' in page.text
        assert "It would be ready 5 s later." in page.text
        assert 'Its body would be {"n": 10}' in page.text
        assert 'Not rule "<b>small</b>" (line 1): n in its body is 1, not 0.' in page.text
        check(page)
        client.act("/dead-letters/hold", id=two)
        assert "It is held: recovery leaves it" in client.page(f"/messages/{two}").text


def test_the_page_tells_of_the_breaker_and_of_rules_for_others(dq: DurableQ, path: Path) -> None:
    one, two = bury(dq, 2)
    opened = BreakerState(Phase.OPEN, 1, 1, 1 << 45, died=11, judged=20)
    metadata = dq.store.require(Capability.METADATA)
    metadata.compare_and_set(METADATA_PREFIX + "orders", opened.to_json(), expected=None)
    words = "The breaker of orders is open: 11 of 20 messages"
    with Client.of(dq, rules=path) as client:
        assert words in client.page(f"/messages/{two}").text
        assert words not in client.page(f"/messages/{one}").text  # nothing is sent back
        path.write_text(RULES.replace('"orders"', '"mail"'))
        assert "Recovery would not meet it" in client.page(f"/messages/{two}").text


def test_a_dry_run_counts_by_rule_and_changes_nothing(either: DurableQ, path: Path) -> None:
    ids = bury(either, 5)
    others = bury(either, 2, "KeyError")
    with Client.of(either, rules=path) as client:
        client.act("/dead-letters/hold", id=ids[4])
        dead_letters = either.store.require(Capability.DEAD_LETTERS)
        before = [dead_letters.dead_letter(one) for one in (*ids, *others)]
        page = client.page("/dead-letters?all=1")
        (address,) = [link for link in page.values("a", "href") if "/dry-run" in link]
        page = client.page(address)
        assert "Looked at 7, to the end. 1 held" in page.text
        assert f'retry 3 rule "network" (line 9) of {path} {ids[1]} rule "network"' in page.text
        assert 'discard 2 rule "<b>small</b>"' in page.text
        assert f"hold 1 no rule of {path}" in page.text
        assert "too <i>small</i>" in page.text
        check(page)
        assert [dead_letters.dead_letter(one) for one in (*ids, *others)] == before
        page = client.page("/dead-letters/dry-run", params={"reason": "rejected"})
        assert "Looked at 0, to the end." in page.text
        page = client.page("/dead-letters/dry-run", params={"reason": "boredom"})
        assert (page.status, "There is no reason 'boredom'." in page.text) == (400, True)


def test_a_long_dry_run_goes_on_in_the_next_page(
    dq: DurableQ, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = bury(dq, 3)
    monkeypatch.setattr(rules, "DRY_RUN_SECONDS", 0.0)
    with Client.of(dq, rules=path, read_only=True) as client:
        seen, address = [], "/dead-letters/dry-run?queue=orders"
        while address:
            page = client.page(address)
            assert "Looked at 1" in page.text
            links = page.values("a", "href")
            seen += [link.rpartition("/")[2] for link in links if link.startswith("/messages/")]
            address = next((link for link in links if "after=" in link), "")
    assert seen == ids


def test_policies_of_the_application_decide(dq: DurableQ) -> None:
    one, two = bury(dq, 2)

    @dq.recovery("orders")
    def decide(letter: object) -> Requeue | Hold | Retry:
        print("not in a page")
        return Retry(b"\x00") if getattr(letter, "id", "") == one else Requeue("<u>again</u>")

    with Client.of(dq) as client:
        page = client.page(f"/messages/{one}")
        assert "the application's policies retry, by policy" in page.text
        assert "Its body would be 1 bytes" in page.text
        check(client.page(f"/messages/{two}"))
        page = client.page("/dead-letters/dry-run")
        assert "requeue 1 policy" in page.text
        assert "<u>again</u>" in page.text
    assert "not in a page" not in page.html


def test_without_rules_nothing_is_foretold(dq: DurableQ, client: Client) -> None:
    (one,) = bury(dq)
    assert "What recovery would decide" not in client.page(f"/messages/{one}").text
    assert "dry-run" not in client.page("/dead-letters?all=1").html
    page = client.page("/dead-letters/dry-run")
    assert (page.status, "Start it with --rules FILE" in page.text) == (404, True)


def test_wrong_rules_are_a_sentence(dq: DurableQ, path: Path, tmp_path: Path) -> None:
    (one,) = bury(dq)
    with pytest.raises(InvalidInput, match="cannot be read"):
        dashboard(dq, rules=tmp_path / "none.toml")
    with Client.of(dq, rules=path) as client:
        assert "discard, by rule" in client.page(f"/messages/{one}").text
        path.write_text(f"{RULES}\n[[rule]]\nthen = 'burn'\nname = '{CORPUS[0]}'\n")
        page = client.page(f"/messages/{one}")
        assert (page.status, "line 19" in page.text) == (200, True)
        check(page)
        page = client.page("/dead-letters/dry-run")
        assert (page.status, "line 19" in page.text) == (400, True)
        path.write_text(RULES.replace('queue = "orders"', 'queue = "nowhere"'))
        page = client.page("/dead-letters/dry-run")
        assert (page.status, "there is no queue 'nowhere'" in page.text) == (400, True)
        path.write_text(RULES)
        assert "discard, by rule" in client.page(f"/messages/{one}").text
