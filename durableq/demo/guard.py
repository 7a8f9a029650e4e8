"""`python -m durableq.demo.guard`: end the processes of a killed demo, chaos or bench run.

It reads the session of each process from stdin, one a line. The end of stdin is the end of the
process that started them.
"""

from __future__ import annotations

import sys

from durableq.demo.processes import kill_sessions


def main() -> None:
    """Wait for the end of stdin, then kill the processes of the named sessions."""
    kill_sessions({int(line) for line in sys.stdin})


if __name__ == "__main__":
    main()
