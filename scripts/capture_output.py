"""Write the captures in the documentation: what commands print on a terminal of 80 columns.

python -m scripts.capture_output

A capture stands between two comments, `<!-- capture: COMMAND -->` and `<!-- end of capture -->`.
The commands run on the database of scripts/example_shop.py.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from durableq import DurableQ
from scripts.example_shop import fill
from tests.cli.terminals import on_terminal

DOCUMENTS: Final = Path(__file__).resolve().parents[1] / "docs"
COLUMNS: Final = 80
_CAPTURE: Final = re.compile(
    r"<!-- capture: (?P<command>[^\n]+) -->\n(?P<shown>.*?)<!-- end of capture -->", re.DOTALL
)


def captures(text: str) -> dict[str, str]:
    """Return the captures in a document by command."""
    return {found["command"]: found["shown"] for found in _CAPTURE.finditer(text)}


def block(command: str, folder: Path) -> str:
    """Return a command and its output, as a block of a document."""
    words = command.removeprefix("durableq ").split()
    if "--exec" in words:
        at = words.index("--exec") + 1
        words[at:] = [" ".join(words[at:]).strip("'")]
    shown = on_terminal(*words, cwd=folder, columns=COLUMNS, env={"NO_COLOR": "1"})
    lines = "\n".join(line.rstrip() for line in shown.lines)
    return f"```console\n$ {command}\n{lines}\n```\n"


def filled(folder: Path) -> None:
    """Make the example in a folder, as durableq.db."""
    with DurableQ(folder / "durableq.db") as dq:
        fill(dq)


def main() -> int:
    """Write all captures; return the exit code."""
    with TemporaryDirectory() as name:
        os.chdir(name)
        filled(Path(name))
        for document in sorted(DOCUMENTS.glob("*.md")):
            text = document.read_text("utf-8")
            for command in captures(text):
                begin = f"<!-- capture: {command} -->\n"
                found = re.compile(re.escape(begin) + r".*?(?=<!-- end of capture -->)", re.DOTALL)
                parts = found.split(text, maxsplit=1)
                text = f"{parts[0]}{begin}{block(command, Path(name))}{parts[1]}"
                print(f"{document.name}: {command}")
            document.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
