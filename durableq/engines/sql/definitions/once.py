"""Values that one process computes for all: leased, stored, forgotten, shown, pruned."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, literal_column, or_, select, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.tables import once

_p, _o = parameter, once.c
_entry = select(
    _o.key,
    _o.value,
    _o.created_at_ms,
    _o.expires_at_ms,
    _o.stale_until_ms,
    _o.compute_ms,
    _o.owner_token,
    _o.owner_until_ms,
    _o.owner_process,
)
_is_leased = _o.owner_until_ms > _p("lease_now")
_leased = (_o.key == _p("of_key"), _o.owner_token == _p("token"))
_no_lease: dict[str, Any] = {
    "owner_token": literal_column("NULL"),
    "owner_until_ms": literal_column("0"),
    "owner_process": literal_column("''"),
}
_lease = {
    "owner_token": _p("token"),
    "owner_until_ms": _p("until_ms"),
    "owner_process": _p("process"),
}

ONCE = Statement(_entry.where(_o.key == _p("of_key")))
# The first lease of a key; until its end the row counts as one that has expired.
ONCE_BEGIN = Statement(
    insert(once).values(
        key=_p("of_key"),
        created_at_ms=_p("now_ms"),
        expires_at_ms=_p("now_ms"),
        stale_until_ms=_p("now_ms"),
        compute_ms=literal_column("0"),
        **_lease,
    )
)
ONCE_LEASE = Statement(
    update(once)
    .where(_o.key == _p("of_key"), _o.owner_token.is_not_distinct_from(_p("seen_token")))
    .values(**_lease)
)
ONCE_STORE = Statement(
    update(once)
    .where(*_leased)
    .values(
        value=_p("new_value"),
        created_at_ms=_p("now_ms"),
        expires_at_ms=_p("expires_ms"),
        stale_until_ms=_p("stale_ms"),
        compute_ms=_p("took_ms"),
        **_no_lease,
    )
)
ONCE_EXTEND = Statement(update(once).where(*_leased).values(owner_until_ms=_p("until_ms")))
# A lease ends without a value: a key that has none is unknown again.
ONCE_DROP = Statement(delete(once).where(*_leased, _o.value.is_(None)))
ONCE_FAIL = Statement(update(once).where(*_leased, _o.value.is_not(None)).values(**_no_lease))
ONCE_FORGET = Statement(delete(once).where(_o.key == _p("of_key")))
# A copy of the file knows no lease.
END_ONCE_LEASES = Statement(update(once).where(_o.owner_token.is_not(None)).values(**_no_lease))

# ---- for people

_is_known = or_(_is_leased, _o.stale_until_ms > _p("now_ms"))
_counted = select(_o.key).where(_is_known).limit(_p("limit")).subquery("counted")
COUNT_ONCE = Statement(select(func.count()).select_from(_counted))
ONCE_ENTRIES = Statement(
    _entry.where(_o.key > _p("after"), _is_known).order_by(_o.key).limit(_p("limit"))
)

# ---- pruned

_expired = select(_o.key).where(_o.stale_until_ms <= _p("now_ms"), ~_is_leased).limit(_p("limit"))
PRUNE_ONCE = Statement(delete(once).where(_o.key.in_(_expired)))
