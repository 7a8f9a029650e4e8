"""`durableq lint`: the parts of an application that another store does not take."""

from __future__ import annotations

from typing import Any

import typer

from durableq.admin.porting import Target
from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.cli.screen import RED, Line
from durableq.model.health import Finding, is_healthy


def lint(
    session: Session,
    target: Target = option("--target STORE", "The store to move to: postgres or sqs."),
) -> None:
    """Say what of an application another store does not take.

    It looks at the settings of the queues, the source of the modules with handlers, and, where the
    database is there, at every message in it. Nothing is changed. Each line is bad (the target
    refuses it, or has nothing for it) or warn (it works otherwise), with advice; the exit code is 6
    if one is bad.

    Example: durableq lint --target sqs --app shop:dq
    """
    from durableq.admin import porting
    from durableq.client.app import DurableQ, exists

    spec, loaded = session.application()
    if exists(loaded.url):
        session.announce(loaded.url)
        with DurableQ(loaded.url) as plain:  # opening the application would declare its queues
            findings = porting.lint(loaded, target, plain.store)
    else:
        findings = porting.lint(loaded, target, None)
    healthy = is_healthy(findings)
    width = max(len(each.name) for each in findings)
    lines: list[str | Line] = []
    for each in findings:
        lines += output.finding(each.level.value, each.name, width, each.what, each.advice)
    colour = "" if healthy else RED
    summary = f"{spec} to {target.value}: {_summary(healthy)}."
    lines.append(Line(summary, mark="something does not port", colour=colour))
    found = [_document(each) for each in findings]
    document = {"application": spec, "target": target.value, "healthy": healthy, "findings": found}
    session.show(document, *lines)
    if not healthy:
        raise typer.Exit(output.UNHEALTHY)


def _summary(healthy: bool) -> str:
    return "nothing stands in the way" if healthy else "something does not port, see above"


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.name,
        "level": finding.level.value,
        "what": finding.what,
        "advice": finding.advice,
        "queue": finding.queue,
    }
