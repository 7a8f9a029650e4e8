"""The names in docs/METRICS.md, the Grafana dashboard and the alert rules are those exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from durableq import DurableQ
from durableq.metrics.database import DatabaseMetrics
from durableq.metrics.fleet import FleetMetrics
from durableq.supervisor.histograms import FleetHistograms
from tests.support import scaled

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "grafana" / "alerts.yml"
NAME = re.compile(r"durableq_\w+")
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
#: Labels that Prometheus adds.
OF_SCRAPE = {"instance"}


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """All metrics; those of limits without a sample."""
    with DurableQ("memory://") as dq, closing(FleetHistograms()) as histograms:
        dq.queue("orders").send(1)
        histograms.take().end("orders", 1, failed=False)
        collected = chain(DatabaseMetrics(dq.store).collect(), FleetMetrics(histograms).collect())
        return [*collected]


@pytest.fixture(scope="module")
def exported(families: list[Metric]) -> set[str]:
    return {f"{one.name}{suffix}" for one in families for suffix in SUFFIXES[one.type]}


def expressions() -> Iterator[str]:
    """Yield the expressions of the alert rules and of the dashboard's panels."""
    for found in re.finditer(r"expr: (?:>-\n((?: {10}.+\n)+)|(.+))", ALERTS.read_text()):
        yield " ".join((found[1] or found[2]).split())
    board = json.loads((DOCS / "grafana" / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_each_expression_asks_for_metrics_that_are_exported(exported: set[str]) -> None:
    asked = [*expressions()]
    assert len(asked) == ALERTS.read_text().count("expr:") + 27
    for expression in asked:
        names = set(NAME.findall(expression))
        assert names, expression
        assert names <= exported, expression


def test_each_expression_asks_for_labels_that_are_exported(families: list[Metric]) -> None:
    labels = {name for one in families for sample in one.samples for name in sample.labels}
    for expression in expressions():
        grouped = re.findall(r"(?:by|on) \(([^)]*)\)", expression)
        matched = re.findall(r"(\w+)(?:=~?|!=)\"", expression)
        asked = {name.strip() for part in grouped for name in part.split(",")} | {*matched}
        assert asked <= labels | OF_SCRAPE, expression


def test_the_page_names_each_metric(families: list[Metric]) -> None:
    told = set(NAME.findall((DOCS / "METRICS.md").read_text()))
    suffixes = {"counter": "_total", "gauge": "", "histogram": ""}
    assert told == {f"{one.name}{suffixes[one.type]}" for one in families}


def test_promtool_accepts_the_rules_and_the_expressions(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    rules = tmp_path / "panels.yml"
    asked = [one.replace("$__rate_interval", "5m") for one in expressions()]
    panels = [f"  - record: panel\n    expr: {json.dumps(one)}" for one in asked]
    rules.write_text("\n".join(["groups:", "- name: panels", "  rules:", *panels]))
    for file in (ALERTS, rules):
        done = subprocess.run(
            [promtool, "check", "rules", file],
            capture_output=True,
            text=True,
            timeout=scaled(60),
            check=False,
        )
        assert done.returncode == 0, done.stderr
