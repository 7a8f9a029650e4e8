"""Tables of items: created, found, deleted; their items read, written, and removed in time."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, tuple_, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.item_tables import item, item_table

_p, _t, _i = parameter, item_table.c, item.c
# The order of the fields of model.items.ItemTable.
_table = select(
    _t.id, _t.account, _t.region, _t.name, _t.definition, _t.ttl_attribute, _t.created_at_ms
)
_in_region = (_t.account == _p("in_account"), _t.region == _p("in_region"))
_one = (_i.table_id == _p("of_table"), _i.pk == _p("of_pk"), _i.sk == _p("of_sk"))

ITEM_TABLE = Statement(_table.where(*_in_region, _t.name == _p("of_name")))
ITEM_TABLE_OF_ID = Statement(_table.where(_t.id == _p("of_table")))
ITEM_TABLES = Statement(
    _table.where(*_in_region, _t.name > _p("after")).order_by(_t.name).limit(_p("limit"))
)
PUT_ITEM_TABLE = Statement(
    insert(item_table)
    .values(
        account=_p("in_account"),
        region=_p("in_region"),
        name=_p("of_name"),
        definition=_p("definition"),
        ttl_attribute=_p("attribute"),
        created_at_ms=_p("now_ms"),
    )
    .returning(_t.id)
)
DROP_ITEM_TABLE = Statement(delete(item_table).where(_t.id == _p("of_table")))
DROP_ITEMS = Statement(delete(item).where(_i.table_id == _p("of_table")))
SET_ITEM_TTL = Statement(
    update(item_table).where(_t.id == _p("of_table")).values(ttl_attribute=_p("attribute"))
)
_sizes = (
    select(func.length(_i.item).label("size"))
    .where(_i.table_id == _p("of_table"))
    .limit(_p("limit"))
    .subquery("sizes")
)
ITEM_TABLE_SIZE = Statement(
    select(func.count(), func.coalesce(func.sum(_sizes.c.size), 0)).select_from(_sizes)
)

# ---- items

ITEM = Statement(select(_i.item).where(*_one))
ITEM_PAGE = Statement(
    select(_i.pk, _i.sk, _i.item)
    .where(
        _i.table_id == _p("of_table"),
        tuple_(_i.pk, _i.sk) > tuple_(_p("after_pk"), _p("after_sk")),
    )
    .order_by(_i.pk, _i.sk)
    .limit(_p("limit"))
)
PUT_ITEM = Statement(insert(item).values({column.name: _p(column.name) for column in item.columns}))
SET_ITEM = Statement(
    update(item).where(*_one).values(item=_p("new_item"), expires_at_s=_p("expires"))
)
SET_ITEM_EXPIRY = Statement(update(item).where(*_one).values(expires_at_s=_p("expires")))
DROP_ITEM = Statement(delete(item).where(*_one))
_expired = (
    select(_i.table_id, _i.pk, _i.sk)
    .where(_i.expires_at_s >= _p("oldest_s"), _i.expires_at_s <= _p("now_s"))
    .limit(_p("limit"))
)
PRUNE_ITEMS = Statement(delete(item).where(tuple_(_i.table_id, _i.pk, _i.sk).in_(_expired)))
