"""The findings of `doctor --json` and `audit --json`, by check."""

from __future__ import annotations

from typing import Any

from tests.cli.console import Result

#: A condition for the rows of a queue of the shop, in any table that has its id.
OF_ORDERS = "queue_id = (SELECT id FROM durableq_queue WHERE name = 'orders')"
SHAPE = {"check", "name", "level", "what", "advice", "queue"}


def findings(shown: Result) -> dict[str, dict[str, Any]]:
    found = shown.json["findings"]
    assert all(set(finding) == SHAPE for finding in found)
    assert all(finding["advice"] for finding in found if finding["level"] != "ok")
    return {finding["check"]: finding for finding in found}


def levels(shown: Result, *wanted: str) -> set[str]:
    return {name for name, found in findings(shown).items() if found["level"] in wanted}
