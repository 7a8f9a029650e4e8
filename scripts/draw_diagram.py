"""Draw the states of a message into README.md and docs/DESIGN.md, from the table of edges.

python scripts/draw_diagram.py            write both
python scripts/draw_diagram.py --check    exit with 1 if they are out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from durableq.model.lifecycle import diagram

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "DESIGN.md")
BLOCK = re.compile(r"(<!-- diagram: [^\n]*-->\n).*?(<!-- end of diagram -->)", re.DOTALL)


def drawn(page: str) -> str:
    """Return a page's text with its diagram generated anew."""
    return BLOCK.sub(rf"\1```mermaid\n{diagram()}\n```\n\2", page)


def main() -> int:
    """Write the pages, or with --check compare them; return the exit code."""
    stale = [page for page in PAGES if drawn(page.read_text()) != page.read_text()]
    for page in stale:
        if "--check" not in sys.argv:
            page.write_text(drawn(page.read_text()))
        print(f"{page.relative_to(ROOT)}: {'is out of date' if '--check' in sys.argv else 'drawn'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
