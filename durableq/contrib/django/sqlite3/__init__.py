"""Django's backend for SQLite, on the SQLite library of durableq."""
