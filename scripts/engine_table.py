"""Write the table of engines and capabilities into docs/GUARANTEES.md."""

import re
import sys
import tempfile
from pathlib import Path

from durableq import DurableQ
from durableq.store.core import Capability

GUARANTEES = Path(__file__).resolve().parents[1] / "docs" / "GUARANTEES.md"
PLACE = re.compile(r"(?<=<!-- engines -->\n).*?(?=<!-- /engines -->)", re.DOTALL)


def table() -> str:
    """Return the table of the capabilities that each engine states."""
    with tempfile.TemporaryDirectory() as directory:
        stated = {}
        for url in ("memory://", f"sqlite:///{directory}/q.db"):
            with DurableQ(url) as dq:
                stated[dq.store.scheme] = dq.store.capabilities
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
