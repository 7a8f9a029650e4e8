"""Run pytest with a planted bug: `python -m tests.sabotage.planted ...` of a warm process.

The bug is planted at the same moment as by plants/sitecustomize.py: before any test is imported.
"""

import inspect
import os
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.sabotage.bugs import BUGS

PLANTS = Path(__file__).parent / "plants"
ROOT = Path(__file__).parents[2]


def planting(bug: str) -> dict[str, str]:
    """Return the variables of a process in which a bug is planted, and of those that it starts."""
    return {
        "PYTHONPATH": os.pathsep.join([str(PLANTS), str(ROOT)]),
        "PLANTED_BUG": f"{BUGS[bug].__module__}:{bug}",
    }


class Only:
    """A plugin that collects one function: of a thousand in a class, pytest would make items.

    Args:
        test: its identifier.
    """

    def __init__(self, test: str) -> None:
        self._name = test.partition("[")[0].rpartition("::")[2]

    def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
        """Return no item for another test."""
        return [] if name.startswith("test_") and name != self._name else None


# A traceback needs a list of the files of all modules. It takes a third of the time of a run, and
# is made once, where the warm process imports this.
inspect.getmodule(planting.__code__)

if __name__ == "__main__":
    resolve_name(os.environ["PLANTED_BUG"])()
    sys.exit(pytest.main(sys.argv[1:], plugins=[Only(sys.argv[-1])]))
