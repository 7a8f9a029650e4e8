"""The features of a file that durableq's SQLite library opens, for Django."""

from __future__ import annotations

from django.db.backends.sqlite3 import features


class DatabaseFeatures(features.DatabaseFeatures):
    """Django's features for SQLite.

    Django asks the standard library's SQLite, which is not the one in use. That of durableq is 3.37
    or newer.
    """

    can_alter_table_drop_column = True  # from 3.35 on, as the next two
    can_return_columns_from_insert = True
    can_return_rows_from_bulk_insert = True
    test_db_allows_multiple_connections = True
