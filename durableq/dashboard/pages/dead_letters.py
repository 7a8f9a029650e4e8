"""Dead letters: groups by their failure first, then the letters of one."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from durableq.dashboard import letters as choice
from durableq.dashboard.errors import Refusal
from durableq.dashboard.visit import Visit
from durableq.model.dead_letters import DeadLetterFilter, DeadLetterGroup
from durableq.model.message import DeadLetter, State
from durableq.store.core import Capability

#: Dead letters in a page.
PAGE: Final = 50
#: Groups in a page, the largest.
MAX_GROUPS: Final = 100


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page.

    It has the groups; with `group` or `all` in the address the letters too.

    Raises:
        Refusal: there is no such reason.
    """
    wanted = choice.wanted(visit.query)
    queue, fingerprint = visit.query("queue"), visit.query("group")
    dead_letters = visit.store.require(Capability.DEAD_LETTERS)
    groups = dead_letters.dead_letter_groups(queue or None)
    shown = [group for group in groups if _is_shown(group, wanted)]
    is_chosen = visit.is_asked("all") or bool(fingerprint)
    letters = []
    if is_chosen:
        after = visit.query("after") or None
        letters = dead_letters.dead_letters(wanted, PAGE + 1, after, newest_first=True)
    return {
        "queue": queue,
        "groups": [(group, address(group)) for group in shown[:MAX_GROUPS]],
        "groups_left": max(0, len(shown) - MAX_GROUPS),
        "total": sum(group.count for group in shown),
        "is_chosen": is_chosen,
        "letters": [(letter, _state(letter)) for letter in letters[:PAGE]],
        "next_address": _next(visit, letters),
        "has_rules": bool(visit.rules.source),
        "filter": {"queue": queue, "reason": wanted.reason or "", "group": fingerprint},
        "redrives": visit.store.require(Capability.REDRIVE).redrive_tasks()[:10],
    }


def address(group: DeadLetterGroup) -> str:
    """Return the address of the letters of a group."""
    return "/dead-letters?" + urlencode(
        {"queue": group.queue, "reason": group.reason, "group": group.fingerprint}
    )


def _next(visit: Visit, letters: list[DeadLetter]) -> str:
    if len(letters) <= PAGE:
        return ""
    query = dict(visit.request.query_params) | {"after": letters[PAGE - 1].id}
    return "/dead-letters?" + urlencode(query)


def _is_shown(group: DeadLetterGroup, wanted: DeadLetterFilter) -> bool:
    return wanted.fingerprint in {None, group.fingerprint} and wanted.reason in {None, group.reason}


def _state(letter: DeadLetter) -> str:
    message = letter.message
    if message.held:
        return "held"
    return "in recovery" if message.state is State.IN_FLIGHT else message.state.label


def dry_run(visit: Visit) -> dict[str, Any]:
    """Return the decisions that recovery would make about those that match the address.

    Raises:
        Refusal: there are no rules, or there is no such reason.
        InvalidInput: the rules are wrong.
    """
    if not visit.rules.source:
        raise Refusal(
            404,
            "This dashboard has no rules of recovery.",
            "Start it with --rules FILE, or with --app MODULE:ATTRIBUTE for its policies.",
        )
    wanted = choice.wanted(visit.query)
    # The whole of them: the rules compare hidden fields too.
    run = visit.rules.dry_run(visit.dq.store, wanted, visit.query("after") or None)
    query = dict(visit.request.query_params)
    filters = {name: query.get(name, "") for name in ("queue", "reason", "group")}
    return {
        "source": visit.rules.source,
        "run": run,
        "filter": filters,
        "began_after": query.get("after", ""),
        "back": "/dead-letters?" + urlencode(filters | {"all": "1"}),
        "next_address": f"/dead-letters/dry-run?{urlencode(filters | {'after': run.after})}"
        if run.after
        else "",
    }
