"""Names that the application of schedules and its tests share.

The tests do not import the application: it would kill the process of the tests.
"""

from __future__ import annotations

from typing import Final

APP: Final = "tests.process.schedule_app:dq"
NAME: Final = "tick"
#: The points at which the first process to come by kills itself.
POINTS: Final = ("after-the-send", "before-the-commit", "after-the-commit")
