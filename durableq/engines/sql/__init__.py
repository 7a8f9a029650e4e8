"""SQL databases: one folder for the tables and verbs, one file for what is SQLite's own."""
