"""The SQS endpoint's columns of messages, and its tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)

from durableq.engines.sql.definitions.elements import (
    Statement,
    has_state,
    has_text,
    in_list,
    parameter,
)
from durableq.engines.sql.definitions.endpoint_tables import (
    deleted_queue,
    queue_document,
    receive_attempt,
)
from durableq.engines.sql.definitions.messages import (
    flow_order,
    found_by_id_in_queue,
    in_flight,
    no_text,
    under_receipt,
    with_flow,
    zero,
)
from durableq.engines.sql.definitions.queries import STATES
from durableq.engines.sql.definitions.tables import is_state, message, queue
from durableq.model.message import State

_m, _q, _d, _a, _p = message.c, queue.c, queue_document.c, receive_attempt.c, parameter

_envelope = {
    "body_format": _p("body_format"),
    "system_attributes": func.nullif(_p("system_attributes", _m.system_attributes), no_text),
}
# Of a message that has more than a body and plain attributes.
INSERT_ENVELOPE = Statement(
    insert(message).values(**with_flow | _envelope), order=(*flow_order, *_envelope)
)
# Of messages that were just leased, by their ids: a receive of a worker reads no column more.
ENVELOPES = Statement(
    select(
        *(_m.id, _m.body_format, _m.system_attributes, _m.first_received_at_ms),
        # A message without a group may have been stored without a place.
        case((_m.sequence == zero, _m.id), else_=_m.sequence),
    ).where(in_list(_m.id, "ids")),
    order=("ids",),
    for_one=True,
)

# ---- leases that are taken up again

IN_FLIGHT_UNDER = Statement(
    select(_m.receipt).where(
        _m.id == _p("of"), found_by_id_in_queue, has_state(_m.state, State.IN_FLIGHT)
    )
)
NOT_RECEIVED_SINCE = Statement(
    select(_m.id).where(
        _m.id == _p("of"),
        found_by_id_in_queue,
        _m.receive_count == _p("receives"),
        _m.recovery_count == _p("recoveries"),
    )
)
LEASE_AGAIN = Statement(
    update(message)
    .where(_m.id == _p("of"), has_state(_m.state, State.READY), _m.key.is_(None))
    .values(state=in_flight, receipt=_p("token"), owner_id=_p("owner"), lease_until_ms=_p("until"))
)

# ---- documents of queues

_no_document: Any = literal_column("'{}'")
_document = (
    _q.name,
    _q.created_at_ms,
    func.coalesce(_d.attributes, _no_document),
    func.coalesce(_d.tags, _no_document),
    func.coalesce(_d.modified_at_ms, _q.created_at_ms),
    func.coalesce(_d.purged_at_ms, zero),
    func.coalesce(_d.version, zero),
)
_documents = select(*_document).select_from(queue.outerjoin(queue_document, _d.queue_id == _q.id))
QUEUE_DOCUMENT = Statement(_documents.where(_q.name == _p("queue")), order=("queue",))
_has_message = or_(
    *(select(_m.id).where(_m.queue_id == _q.id, is_state(state)).exists() for state in STATES)
)
# In pages: those of one account and region are chosen among them.
QUEUE_DOCUMENTS = Statement(
    _documents.where(
        _q.name >= _p("from_name", _q.name),
        or_(_q.dead_letter_queue_id.is_not(None), _d.version > zero, _has_message),
    )
    .order_by(_q.name)
    .limit(_p("limit"))
)
# Those whose attributes have a text somewhere. All are read, but few go any further.
DOCUMENTS_WITH = Statement(
    select(*_document)
    .select_from(queue_document.join(queue, _q.id == _d.queue_id))
    .where(has_text(_d.attributes, "words"))
    .order_by(_q.name)
)
_target = queue.alias("target")
SOURCES_OF = Statement(
    select(_q.name)
    .where(
        _q.dead_letter_queue_id
        == select(_target.c.id).where(_target.c.name == _p("queue")).scalar_subquery(),
        _q.max_receives > zero,
    )
    .order_by(_q.name)
)
STORE_QUEUE_DOCUMENT = Statement(
    text(
        """\
INSERT INTO durableq_queue_document
    (queue_id, attributes, tags, modified_at_ms, purged_at_ms, version)
VALUES (:in_queue, :attributes, :tags, :modified_at_ms, :purged_at_ms, :version)
ON CONFLICT (queue_id) DO UPDATE SET
    attributes = excluded.attributes, tags = excluded.tags,
    modified_at_ms = excluded.modified_at_ms, purged_at_ms = excluded.purged_at_ms,
    version = excluded.version"""
    )
)
DROP_QUEUE_DOCUMENT = Statement(delete(queue_document).where(_d.queue_id == _p("in_queue")))
NOTE_DELETION = Statement(
    text(
        "INSERT INTO durableq_deleted_queue (name, deleted_at_ms) VALUES (:name, :now_ms) "
        "ON CONFLICT (name) DO UPDATE SET deleted_at_ms = excluded.deleted_at_ms"
    )
)
DELETION = Statement(
    select(deleted_queue.c.deleted_at_ms).where(deleted_queue.c.name == _p("name"))
)
_forgotten = (
    select(deleted_queue.c.name)
    .where(deleted_queue.c.deleted_at_ms <= _p("oldest_ms"))
    .limit(_p("limit"))
)
PRUNE_DELETIONS = Statement(delete(deleted_queue).where(deleted_queue.c.name.in_(_forgotten)))

# ---- receives that are repeated

ATTEMPT = Statement(
    select(_a.receipt, _a.messages, _a.lease_until_ms).where(
        _a.queue_id == _p("in_queue"),
        _a.attempt_id == _p("attempt_id"),
        _a.expires_at_ms > _p("now_ms"),
    )
)
STILL_LEASED = Statement(
    select(func.count())
    .select_from(message)
    .where(in_list(_m.id, "ids"), *under_receipt, _m.lease_until_ms == _p("until"))
)
KEEP_ATTEMPT = Statement(
    text(
        """\
INSERT INTO durableq_receive_attempt
    (queue_id, attempt_id, receipt, messages, lease_until_ms, expires_at_ms)
VALUES (:in_queue, :attempt_id, :token, :messages, :until, :expires_at_ms)
ON CONFLICT (queue_id, attempt_id) DO UPDATE SET
    receipt = excluded.receipt, messages = excluded.messages,
    lease_until_ms = excluded.lease_until_ms, expires_at_ms = excluded.expires_at_ms"""
    )
)
RENEW_ATTEMPT = Statement(
    update(receive_attempt)
    .where(_a.queue_id == _p("in_queue"), _a.attempt_id == _p("of_attempt"))
    .values(lease_until_ms=_p("until"))
)
DROP_ATTEMPTS = Statement(delete(receive_attempt).where(_a.queue_id == _p("in_queue")))
_over = (
    select(_a.queue_id, _a.attempt_id).where(_a.expires_at_ms <= _p("now_ms")).limit(_p("limit"))
)
PRUNE_ATTEMPTS = Statement(
    delete(receive_attempt).where(tuple_(_a.queue_id, _a.attempt_id).in_(_over))
)
