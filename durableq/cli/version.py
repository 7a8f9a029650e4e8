"""`durableq --version --json`: the versions that a report of a defect needs."""

from __future__ import annotations

import platform
from typing import Any

from durableq import __version__
from durableq.admin.operations import library_versions


def facts() -> dict[str, Any]:
    """Return the versions of durableq, of Python, of the system and of the engines' libraries."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        **library_versions(),
    }
