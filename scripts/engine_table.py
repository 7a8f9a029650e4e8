"""Write the table of engines and capabilities into docs/GUARANTEES.md."""

import re
import sys
from pathlib import Path

from durableq.engines import memory
from durableq.engines.postgres import store as postgres
from durableq.engines.sqlite import store as sqlite
from durableq.store.core import Capability, Store

GUARANTEES = Path(__file__).resolve().parents[1] / "docs" / "GUARANTEES.md"
PLACE = re.compile(r"(?<=<!-- engines -->\n).*?(?=<!-- /engines -->)", re.DOTALL)


def table() -> str:
    """Return the table of the capabilities that each engine states."""
    stores: list[type[Store]] = [memory.MemoryStore, sqlite.SQLStore, postgres.PostgresStore]
    stated = {store.scheme: store.capabilities for store in stores}
    rows = [["capability", "purpose", *stated], ["---"] * (2 + len(stated))]
    rows.append(["queueing (the core)", "send, receive and settle messages", *["x"] * len(stated)])
    for capability in Capability:
        has = ["x" if capability in having else "\N{EN DASH}" for having in stated.values()]
        rows.append([capability.label, capability.purpose, *has])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(text: str) -> str:
    """Return the page with the table of today between its marks."""
    return PLACE.sub(lambda _: table(), text)


if __name__ == "__main__":
    GUARANTEES.write_text(with_table(GUARANTEES.read_text()))
    sys.stdout.write(f"{GUARANTEES.name} is written.\n")
