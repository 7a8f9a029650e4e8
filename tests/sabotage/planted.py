"""Run pytest with a planted bug: `python -m tests.sabotage.planted ...` of a warm process.

The bug is planted at the same moment as by plants/sitecustomize.py: before any test is imported.
"""

import os
import sys

import pytest

from tests.sabotage.bugs import BUGS

if __name__ == "__main__":
    BUGS[os.environ["PLANTED_BUG"]]()
    sys.exit(pytest.main(sys.argv[1:]))
