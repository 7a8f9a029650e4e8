"""`python -m durableq` is the `durableq` command."""

import sys

from durableq.cli import main

if __name__ == "__main__":
    sys.exit(main())
