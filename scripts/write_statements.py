"""Write the generated modules: names and texts of the SQL statements. `make statements` runs it."""

from __future__ import annotations

from pathlib import Path

import durableq.engines.postgres.compiler as postgres
import durableq.engines.sqlite.compiler as sqlite
from durableq.engines.sql.definitions import generation

ENGINES = Path(__file__).resolve().parents[1] / "durableq" / "engines"
SQLITE = generation.Form("SQLite", sqlite.DIALECT, "?", has_names=True)
POSTGRES = generation.Form(
    "PostgreSQL",
    postgres.DIALECT,
    "$",
    has_names=False,
    views={"durableq_counters": "durableq_totals"},
)


def modules() -> dict[Path, str]:
    """Return the text of each generated module, by its path."""
    return {
        ENGINES / "sql" / "statements.py": generation.names_module(),
        ENGINES / "sqlite" / "statements.py": generation.texts_module(SQLITE),
        ENGINES / "postgres" / "statements.py": generation.texts_module(POSTGRES),
    }


if __name__ == "__main__":
    for path, text in modules().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"Wrote {path.relative_to(ENGINES.parents[1])}.")
