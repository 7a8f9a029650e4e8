"""`python -m durableq.demo.guard`: ends what a demo, chaos or bench run leaves when it is killed.

It is told the session of each process on stdin, one a line. The end of that is the end of whoever
started them, by whatever means.
"""

from __future__ import annotations

import sys

from durableq.demo.processes import kill_sessions


def main() -> None:
    """Wait for the end of stdin, then kill what is left of the sessions that were named."""
    kill_sessions({int(line) for line in sys.stdin})


if __name__ == "__main__":
    main()
