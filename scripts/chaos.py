"""Run `durableq chaos` from the source tree: python scripts/chaos.py --kills 100 --seconds 60."""

from __future__ import annotations

import sys

from durableq.cli import main

if __name__ == "__main__":
    sys.exit(main(["chaos", *sys.argv[1:]]))
