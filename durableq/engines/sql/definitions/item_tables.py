"""The tables of items that a server of DynamoDB's protocol keeps, apart from the queues."""

from __future__ import annotations

from sqlalchemy import Column, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from durableq.engines.sql.definitions.kinds import TEXT, WHOLE, partial, whole
from durableq.engines.sql.definitions.tables import metadata

item_table = Table(
    "durableq_item_table",
    metadata,
    # AUTOINCREMENT: a table that is deleted and created again has another id.
    Column("id", WHOLE, primary_key=True, nullable=False),
    *(Column(name, TEXT, nullable=False) for name in ("account", "region", "name")),
    # JSON: the parameters of its creation.
    Column("definition", TEXT, nullable=False),
    Column("ttl_attribute", TEXT, nullable=False, server_default=""),
    whole("created_at_ms"),
    UniqueConstraint("account", "region", "name", name="durableq_item_table_name"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

# With a rowid: an item has up to 400 KB, which the tree of a primary key would carry along.
item = Table(
    "durableq_item",
    metadata,
    whole("table_id"),
    # The parts of the key, each as JSON text or, where that is long, as its digest.
    *(Column(name, TEXT, nullable=False) for name in ("pk", "sk")),
    # JSON.
    Column("item", TEXT, nullable=False),
    # On the wall clock, in seconds.
    Column("expires_at_s", WHOLE),
    PrimaryKeyConstraint("table_id", "pk", "sk", name="durableq_item_key"),
    sqlite_strict=True,
)
Index("durableq_item_expiry", item.c.expires_at_s, **partial(item.c.expires_at_s.is_not(None)))
