"""The findings of `doctor --json` and `audit --json`, by check."""

from __future__ import annotations

from typing import Any

from tests.cli.console import Result

SHAPE = {"check", "name", "level", "what", "advice", "queue"}


def findings(shown: Result) -> dict[str, dict[str, Any]]:
    found = shown.json["findings"]
    assert all(set(finding) == SHAPE for finding in found)
    assert all(finding["advice"] for finding in found if finding["level"] != "ok")
    return {finding["check"]: finding for finding in found}


def levels(shown: Result, *wanted: str) -> set[str]:
    return {name for name, found in findings(shown).items() if found["level"] in wanted}
