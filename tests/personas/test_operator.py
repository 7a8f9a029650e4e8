"""An operator's alert: from a shell, in a folder of another team, with the rules of the docs."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.console import Result, forked

RULES = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "alerts.yml"
#: The one application of the operator's colleagues.
SHOP = """\
from durableq import DurableQ, Reject

dq = DurableQ("shop.db")
dq.queue("orders")

@dq.handler("orders")
def charge(message):
    if message.body["total"] < 0:
        raise Reject("no such total")
"""
_SUM = re.compile(r"sum by \(([\w, ]+)\) \((\w+)(?:\{(\w+)(=~|!=|=)\"([^\"]*)\"\})?\) > (\d+)")
_UNLESS = re.compile(r" unless on \([\w, ]+\) ")
#: How a matcher of PromQL compares a label.
_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "=": lambda has, wanted: has == wanted,
    "!=": lambda has, wanted: has != wanted,
    "=~": lambda has, wanted: re.fullmatch(wanted, has) is not None,
}


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Result]:
    """The command, in the folder of the application."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "ask.toml").write_text('[[rule]]\nname = "ask"\nthen = "hold"\n')

    def run(*words: str, stdin: str = "") -> Result:
        return forked(*words, cwd=tmp_path, stdin=stdin.encode(), DURABLEQ_DB="shop.db")

    return run


def rule(name: str) -> str:
    """Return the expression of an alert, on one line."""
    text = RULES.read_text()
    found = re.search(rf"alert: {name}\n +expr: (?:>-\n((?: {{10}}.+\n)+)|(.+))", text)
    assert found is not None, name
    return " ".join((found[1] or found[2]).split())


def firing(expression: str, exposition: str) -> set[str]:
    """Return the queues for which an expression is true: sums, compared, one `unless` another.

    It knows these forms only, and fails on any other.
    """
    first, *others = (queues(part, exposition) for part in _UNLESS.split(expression))
    return first.difference(*others)


def queues(term: str, exposition: str) -> set[str]:
    """Return the queues whose sum exceeds the number of a term."""
    found = _SUM.fullmatch(term)
    assert found is not None, term
    _, metric, label, operator, wanted, least = found.groups()
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            of_metric = sample.name == metric
            if of_metric and (not label or _MATCHES[operator](sample.labels[label], wanted)):
                sums[sample.labels["queue"]] += sample.value
    return {queue for queue, value in sums.items() if value > float(least)}


def test_a_queue_without_a_worker_fires_until_it_is_worked(shell: Callable[..., Result]) -> None:
    alert = rule("DurableqNoWorker")
    assert shell("queue", "create", "orders").code == 0
    assert firing(alert, shell("metrics").out) == set()
    shell("produce", "-", "--queue", "orders", stdin='{"total": 1}\n')
    assert firing(alert, shell("metrics").out) == {"orders"}
    doctor = shell("doctor")
    assert "no running worker is registered, so none handles 'orders'" in doctor.out + doctor.err
    (queue, _) = json.loads(shell("status", "--json").out)["queues"]
    assert (queue["handled_by"], queue["counts"]["ready"]) == (0, 1)
    assert shell("work", "--drain", "--app", "shop:dq").code == 0
    assert firing(alert, shell("metrics").out) == set()


def test_held_dead_letters_fire_until_a_person_has_decided(shell: Callable[..., Result]) -> None:
    alert = rule("DurableqMessagesHeld")
    shell("queue", "create", "orders")
    assert shell("doctor", "--max-dead", "0").code == 0
    shell("produce", "-", "--queue", "orders", stdin='{"total": -1}\n')
    assert shell("work", "--drain", "--app", "shop:dq").code == 0
    over = shell("doctor", "--max-dead", "0")
    assert over.code == 6
    assert re.search(r"max_dead +orders-dlq: dead letters 1", over.out), over.out
    assert firing(alert, shell("metrics").out) == set()  # recovery may still decide about it
    letter = json.loads(shell("dlq", "list", "--json").out)
    assert shell("recover", "--once", "--policy", "ask.toml").code == 0
    assert firing(alert, shell("metrics").out) == {"orders"}
    told = shell("show", letter["id"]).out
    assert "held in orders-dlq for a person's decision" in told
    assert "no such total" in told
    assert shell("dlq", "discard", letter["id"], "--yes").code == 0
    assert firing(alert, shell("metrics").out) == set()
    assert shell("doctor", "--max-dead", "0").code == 0


def test_a_textfile_has_the_metrics_of_the_rule(
    shell: Callable[..., Result], tmp_path: Path
) -> None:
    shell("queue", "create", "orders")
    shell("produce", "-", "--queue", "orders", stdin='{"total": 1}\n')
    assert shell("metrics", "--textfile", "durableq.prom").code == 0
    exposition = (tmp_path / "durableq.prom").read_text()
    assert firing(rule("DurableqNoWorker"), exposition) == {"orders"}
