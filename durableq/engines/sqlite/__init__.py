"""The SQLite engine: its dialect, connections, file checks, schema, backups and doctor."""
