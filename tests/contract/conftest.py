"""A table at the end of the run: the tests of each capability that passed, by engine."""

from collections import Counter

import pytest

from durableq.testing.contract.case import ContractCase

PACKAGE = "durableq.testing.contract."


def capability_of(item: pytest.Item) -> str | None:
    """Return the capability to which a contract test belongs, by the module that defines it."""
    function, case = getattr(item, "function", None), getattr(item, "cls", None)
    if case is None or not issubclass(case, ContractCase):
        return None
    module: str = getattr(function, "__module__", "")
    return module.removeprefix(PACKAGE).partition(".")[0] if module.startswith(PACKAGE) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (capability := capability_of(item)) is not None:
            item.user_properties.append(("capability", capability))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        if capability := dict(report.user_properties).get("capability"):
            passed[str(capability), report.nodeid.split("::")[1].removeprefix("Test")] += 1
    if not passed:
        return
    engines = sorted({engine for _, engine in passed})
    terminalreporter.section("contract tests passed, by capability")
    widths = [len(engine) + 2 for engine in engines]
    terminalreporter.line(
        " " * 16 + "".join(f"{e:>{w}}" for e, w in zip(engines, widths, strict=True))
    )
    for capability in sorted({capability for capability, _ in passed}):
        counts = [passed[capability, engine] or "-" for engine in engines]
        cells = "".join(f"{count:>{width}}" for count, width in zip(counts, widths, strict=True))
        terminalreporter.line(f"{capability:16}{cells}")
