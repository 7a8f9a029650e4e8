"""Draw docs/spike.svg from a run of `durableq demo --spike`, which takes about four minutes.

python -m scripts.draw_spike
"""

from __future__ import annotations

import sys
from pathlib import Path

from durableq.cli.spike import View
from durableq.demo.spike.drawing import drawing
from durableq.demo.spike.figures import problems
from durableq.demo.spike.load import Load
from durableq.demo.spike.run import run

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "spike.svg"


def main() -> int:
    """Run the spike with limits and without, and draw both; return the exit code."""
    recordings = [run(load, View(), print) for load in (Load().with_limits(), Load())]
    found = [problem for recording in recordings for problem in problems(recording)]
    print("\n".join(found) or "Both runs went as they should.")
    if not found:
        PICTURE.write_text(drawing(recordings), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
