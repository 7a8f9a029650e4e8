"""The benchmark of a PostgreSQL database: `durableq bench --db postgresql://…`."""
