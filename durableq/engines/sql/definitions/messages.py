"""The statements that change a message, in the order of its life.

A state changes only here. Each transition names the state that it starts from, and in flight the
receipt as well. It returns the rows that it moved, and its caller compares them with the rows that
it expected. States are literals, which a partial index needs to be used.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    case,
    column,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    text,
    true,
    update,
)

from durableq.engines.sql.columns import (
    LEASE_EPOCH_MS,
    NEEDS_UPKEEP,
    NO_RECEIPT,
    OWNER_BASE,
    READY_COLUMNS,
    STORED_QUEUE,
)
from durableq.engines.sql.definitions.elements import (
    Statement,
    bytes_literal,
    given_id,
    has_state,
    in_list,
    last_id,
    parameter,
)
from durableq.engines.sql.definitions.tables import idempotency, is_state, message, queue
from durableq.model.message import FOREVER_MS, RecordStatus, State

_m, _r, _q = message.c, idempotency.c, queue.c
zero: Any = literal_column("0")
_no_receipt: Any = bytes_literal(NO_RECEIPT)
_no_lease: Any = literal_column(str(LEASE_EPOCH_MS))
_no_owner: Any = literal_column(str(OWNER_BASE))
_forever: Any = literal_column(str(FOREVER_MS))
available = {"receipt": _no_receipt, "owner_id": _no_owner, "lease_until_ms": _no_lease}
ready: Any = literal_column(str(int(State.READY)))
in_flight: Any = literal_column(str(int(State.IN_FLIGHT)))
delayed: Any = literal_column(str(int(State.DELAYED)))


def status_is(status: RecordStatus) -> Any:
    """Return the condition for a record's status as literal SQL."""
    return _r.status == literal_column(str(int(status)))


_p = parameter

#: No index has the sum, so rows named by id are looked up by id, not among all of their queue.
found_by_id_in_queue: Any = _m.queue_id + zero == _p("in_queue")


def from_arrival_or(due_ms: Any) -> Any:
    """Return from when retention counts: never before the arrival, if the clock was set back."""
    return case((_m.enqueued_at_ms > due_ms, _m.enqueued_at_ms), else_=due_ms)


def past_retention(retention_from_ms: Any, retention_ms: Any) -> Any:
    """Return the condition for a message past its retention, as in `lifecycle.admit`.

    That of a dead letter held for a person counts from the far future.
    """
    return retention_from_ms <= _p("now_ms") - retention_ms


#: The columns of a message that leaves its queue, in the order of `leaving.Left`.
left: Any = (_m.id, _m.queue_id, _m.body_bytes, _m.state, _m.source_queue_id, _m.group_id)

# ---- a queue

# Each write transaction compares it, and reads it with a queue: see `WriteTransaction.revision`.
_version = table("durableq_version", column("version_num"))
revision = select(_version.c.version_num).scalar_subquery()
_named = _q.name == _p("queue")
_target = queue.alias("target")
_target_limits = select(_target.c.limits).where(_target.c.id == _q.dead_letter_queue_id)
stored = [*(_q[name] for name in STORED_QUEUE), _target_limits.scalar_subquery()]
QUEUE = Statement(select(*stored, revision).where(_named), order=("queue",))

# ---- send

SEND_TO = Statement(
    select(revision, _q.limits, _q.id, _q.delay_ms, _q.max_body_bytes, last_id(message)).where(
        _named, _q.dead_letter_queue_id.is_not(None)
    ),
    order=("queue",),
)
# An empty value stands for NULL: see `sending`.
no_text: Any = literal_column("''")
_plain: dict[str, Any] = {
    "id": given_id(message, "id"),
    "queue_id": _p("queue_id"),
    "state": _p("state"),
    "rank": _p("rank"),
    "priority": _p("priority"),
    "deferred": zero,
    "receive_count": zero,
    "recovery_count": zero,
    "lease_until_ms": _no_lease,
    "delayed_until_ms": _p("delayed_until_ms"),
    "enqueued_at_ms": _p("now_ms"),
    "sent_at_ms": _p("now_ms"),
    "first_received_at_ms": _forever,
    "retention_from_ms": _p("retention_from_ms"),
    "expires_at_ms": _forever,
    "debounce_until_ms": zero,
    "receipt": _no_receipt,
    "owner_id": _no_owner,
    "body_bytes": _p("body_bytes"),
    "body_format": zero,
    "sequence": zero,
    "key": func.nullif(_p("key", _m.key), no_text),
    "payload_hash": func.nullif(_p("payload_hash", _m.payload_hash), bytes_literal(b"")),
    "attributes": func.nullif(_p("attributes", _m.attributes), no_text),
    "body": _p("body"),
}
_order = (
    "id",
    "queue_id",
    "state",
    "rank",
    "priority",
    "delayed_until_ms",
    "now_ms",
    "retention_from_ms",
    "body_bytes",
    "key",
    "payload_hash",
    "attributes",
    "body",
)
INSERT = Statement(insert(message).values(**_plain), order=_order)
# Of a message with a group, an end or another option of flow control.
with_flow = _plain | {
    "group_id": func.nullif(_p("group_id", _m.group_id), no_text),
    "sequence": _p("sequence"),
    "replace_key": func.nullif(_p("replace_key", _m.replace_key), no_text),
    "debounce_until_ms": _p("debounce_until_ms"),
    "expires_at_ms": _p("expires_at_ms"),
}
flow_order = (
    *(*_order, "group_id", "sequence", "replace_key", "debounce_until_ms", "expires_at_ms"),
)
INSERT_FLOW = Statement(insert(message).values(**with_flow), order=flow_order)

# ---- receive

_is_due = (is_state(State.DELAYED), _m.delayed_until_ms <= _p("now_ms"))
_has_ended = (is_state(State.IN_FLIGHT), _m.lease_until_ms <= _p("lease_now"))
# A queue with its limits, and whether it is paused, or DUE or EXPIRED_LEASES would find anything:
# all of that is rare, and one number. No other columns: the driver describes each at each
# execution, which takes 0.4 microseconds.
RECEIVE_FROM = Statement(
    select(
        revision,
        _q.limits * literal_column("2")
        + case(
            (
                or_(
                    _q.paused != zero,
                    select(_m.id).where(_m.queue_id == _q.id, *_is_due).exists(),
                    select(_m.id).where(_m.queue_id == _q.id, *_has_ended).exists(),
                ),
                literal_column(str(NEEDS_UPKEEP)),
            ),
            else_=zero,
        ),
        _q.id,
        _q.visibility_timeout_ms,
        _q.retention_ms,
    ).where(_named),
    order=("queue", "now_ms", "lease_now"),
)
DUE = Statement(
    select(_m.id)
    .where(_m.queue_id == _p("in_queue"), *_is_due)
    .order_by(_m.delayed_until_ms, _m.id)
    .limit(_p("limit"))
)
_make_ready = update(message).where(in_list(_m.id, "ids"), has_state(_m.state, State.DELAYED))
# The date stays: retention counts from when a message became due.
PROMOTE = Statement(_make_ready.values(state=ready, deferred=zero).returning(_m.id))
CHOOSE = Statement(
    _make_ready.values(
        state=ready, deferred=zero, delayed_until_ms=zero, retention_from_ms=_m.enqueued_at_ms
    ).returning(_m.id)
)
ready_columns = [_m[name] for name in READY_COLUMNS]
with_record = message.outerjoin(
    idempotency,
    (_r.queue_id == _m.queue_id) & (_r.key == _m.key) & _m.source_queue_id.is_(None),
)
# The last column says whether a message is plain: not old or expired, without a record of its key.
is_plain = (
    _r.status.is_(None)
    & (_m.retention_from_ms > _p("oldest_ms"))
    & (_m.expires_at_ms > _p("now_ms"))
)
READY = Statement(
    select(*ready_columns, is_plain)
    .select_from(with_record)
    .where(_m.queue_id == _p("in_queue"), is_state(State.READY))
    .order_by(_m.rank, _m.id)
    .limit(_p("limit")),
    order=("in_queue", "oldest_ms", "now_ms", "limit"),
)
# The facts that decide about one of the others, in the order of `admission.Facts`.
EXAMINE = Statement(
    select(
        _m.retention_from_ms,
        _m.payload_hash,
        _r.status,
        _r.payload_hash,
        _r.expires_at_ms,
        _r.result,
        _r.owner_message_id,
        _r.owner_receipt,
    )
    .select_from(with_record)
    .where(_m.id == _p("of")),
    order=("of",),
)
DEAD_LETTERS = Statement(
    select(*ready_columns, true())
    .where(
        in_list(_m.id, "ids"),
        found_by_id_in_queue,
        _m.source_queue_id.is_not(None),
        ~is_state(State.IN_FLIGHT),
    )
    .order_by(_m.id)
    .limit(_p("limit"))
)


def _lease(state: State) -> Statement:
    """Return the statement that leases messages in a state."""
    return Statement(
        update(message)
        .where(in_list(_m.id, "ids"), has_state(_m.state, state))
        .values(
            state=in_flight,
            receipt=_p("token"),
            owner_id=_p("owner"),
            lease_until_ms=_p("until"),
            receive_count=_m.receive_count + 1,
            first_received_at_ms=case(
                (_m.first_received_at_ms == _forever, _p("now_ms")), else_=_m.first_received_at_ms
            ),
        ),
        order=("ids", "token", "owner", "until", "now_ms"),
        for_one=True,
    )


LEASE, LEASE_FOLLOWING = _lease(State.READY), _lease(State.BLOCKED)
under_receipt = (_m.receipt == _p("token"), has_state(_m.state, State.IN_FLIGHT))
UNDER_RECEIPT = Statement(select(_m.id).where(in_list(_m.id, "ids"), *under_receipt))
# The keys of messages leased just now, in order: where rows are locked, two processes that take the
# same keys do not wait for each other. A key that has a record by now is left to its owner.
TAKE_NEW_KEYS = Statement(
    insert(idempotency).from_select(
        [
            _r.queue_id,
            _r.key,
            _r.status,
            _r.owner_message_id,
            _r.owner_receipt,
            _r.payload_hash,
            _r.created_at_ms,
        ],
        select(
            _m.queue_id,
            _m.key,
            literal_column(str(int(RecordStatus.IN_PROGRESS))),
            _m.id,
            _m.receipt,
            _m.payload_hash,
            _p("now_ms", _r.created_at_ms),
        )
        .where(in_list(_m.id, "ids"), *under_receipt)
        .order_by(_m.key)
        .suffix_with("ON CONFLICT (queue_id, key) DO NOTHING"),
    ),
    order=("ids", "token", "now_ms"),
    for_one=True,
)
# A record is taken over only as the receive saw it: completed but expired, or in progress under a
# lease that has ended.
TAKE_KEY = Statement(
    text(
        """\
INSERT INTO durableq_idempotency
    (queue_id, key, status, owner_message_id, owner_receipt, payload_hash, created_at_ms)
VALUES (:queue_id, :key, 0, :id, :token, :payload_hash, :now_ms)
ON CONFLICT (queue_id, key) DO UPDATE SET
    status = 0, owner_message_id = excluded.owner_message_id,
    owner_receipt = excluded.owner_receipt, payload_hash = excluded.payload_hash,
    result = NULL, created_at_ms = excluded.created_at_ms, completed_at_ms = NULL,
    expires_at_ms = NULL
WHERE durableq_idempotency.status = :seen_status
    AND durableq_idempotency.owner_message_id = :seen_owner_id
    AND durableq_idempotency.owner_receipt = :seen_receipt"""
    ),
    for_rows=True,
)
OWNER_LEASE = Statement(
    select(_m.lease_until_ms).where(
        _m.id == _p("id"), _m.receipt == _p("token"), has_state(_m.state, State.IN_FLIGHT)
    )
)
DEFER = Statement(
    update(message)
    .where(_m.id == _p("of"), has_state(_m.state, State.READY))
    .values(
        state=delayed,
        deferred=literal_column("1"),
        delayed_until_ms=_p("until"),
        retention_from_ms=from_arrival_or(_p("until")),
    )
)
END_READY = Statement(
    delete(message).where(in_list(_m.id, "ids"), has_state(_m.state, State.READY)).returning(*left)
)

# ---- settle, fenced by the receipt

leased_under_receipt = (found_by_id_in_queue, *under_receipt)
COMPLETE_IN = Statement(
    select(
        revision,
        _q.limits,
        _q.id,
        # In a private dead-letter queue NULL: its keys guard nothing.
        case((_q.dead_letter_queue_id.is_not(None), _q.idempotency_ttl_ms)),
    ).where(_named),
    order=("queue",),
)
COMPLETE = Statement(
    delete(message).where(in_list(_m.id, "ids"), *leased_under_receipt).returning(_m.id, _m.key),
    order=("ids", "in_queue", "token"),
    for_one=True,
)
EXTEND = Statement(
    update(message)
    .where(in_list(_m.id, "ids"), *leased_under_receipt)
    .values(lease_until_ms=_p("until"))
    .returning(_m.id)
)
_of_lease = (_m.id, _m.key, _m.receive_count, _m.group_id)
LEASED = Statement(
    select(*_of_lease, _m.expires_at_ms, _m.recovery_count, _m.source_queue_id).where(
        in_list(_m.id, "ids"), *leased_under_receipt
    ),
    for_one=True,
)
PUT_BACK = Statement(
    update(message)
    .where(_m.id == _p("of"), *leased_under_receipt)
    .values(
        state=_p("to_state"),
        delayed_until_ms=func.coalesce(_p("until"), _m.delayed_until_ms),
        # A dead letter may be kept from before its arrival.
        retention_from_ms=func.coalesce(from_arrival_or(_p("until")), _m.retention_from_ms),
        receive_count=_m.receive_count - _p("uncounted"),
        **available,
    )
)
DISCARD = Statement(
    delete(message).where(_m.id == _p("of"), *leased_under_receipt).returning(*left)
)
EXISTS = Statement(select(_m.id).where(_m.id == _p("of")))

_lease_ends = (_m.receipt, _m.expires_at_ms, _m.recovery_count, _m.source_queue_id)
EXPIRED_LEASES = Statement(
    select(*_of_lease, *_lease_ends, _m.owner_id)
    .where(_m.queue_id == _p("in_queue"), *_has_ended)
    .order_by(_m.lease_until_ms, _m.id)
    .limit(_p("limit"))
)


_all_leases = (
    select(*_of_lease, *_lease_ends, _m.owner_id, _m.queue_id)
    .where(is_state(State.IN_FLIGHT))
    .order_by(_m.lease_until_ms, _m.id)
)
ALL_LEASES = Statement(_all_leases)
LEASES_OF_OWNER = Statement(_all_leases.where(_m.owner_id == _p("owner")))
