"""Whether a rule can match at all, by itself."""

from __future__ import annotations

import itertools
from typing import Final

from durableq.model.states import Reason
from durableq.recovery.patch import MISSING, field, written
from durableq.recovery.regex_timeout import surely
from durableq.recovery.rules import Condition, FieldIs, FieldSays, OneOf, Rule, Within

#: What kills without an error of a type.
_NAMELESS: Final = {Reason.TIMEOUT, Reason.LEASE_EXPIRED, Reason.IDEMPOTENCY_CONFLICT}


def contradiction(rule: Rule) -> str | None:
    """Return why no letter can fit a rule's conditions; None if nothing speaks against it."""
    for condition in rule.conditions:
        if isinstance(condition, Within) and condition.least >= condition.below:
            return f"no {condition.name} is both in and under its range"
    for one, other in itertools.permutations(rule.conditions, 2):
        if isinstance(one, FieldIs) and (why := _unlike(one, other)):
            return why
    return _by_reason(rule)


def _unlike(one: FieldIs, other: Condition) -> str | None:
    """Return why a field's value rules out what is asked of it, or of a field within it."""
    if not isinstance(other, (FieldIs, FieldSays)) or other.path[: len(one.path)] != one.path:
        return None
    inner = field(one.value, other.path[len(one.path) :])
    pattern = other.pattern if isinstance(other, FieldSays) else None
    if inner is not MISSING and surely(lambda: other.fits(inner), pattern, otherwise=True):
        return None
    return f"what it asks of the field {written(one.path)} cannot all be true"


def _by_reason(rule: Rule) -> str | None:
    """Return why nothing that dies for these reasons fits."""
    texts = {c.name: c.values for c in rule.conditions if isinstance(c, OneOf)}
    reasons = {Reason(value) for value in texts.get("reason", ())}
    if reasons == {Reason.EXPIRED}:
        return "what is over its retention is removed, and no dead letter"
    if not reasons or "error_type" not in texts or not reasons <= _NAMELESS:
        return None
    return f"what dies of {' or '.join(sorted(reasons))} has no error type"
