"""Every bug that can be planted, by its name."""

from __future__ import annotations

from collections.abc import Callable

from tests.sabotage import (
    features,
    fleet_bugs,
    group_bugs,
    host_bugs,
    session_bugs,
    set_bugs,
    store_bugs,
    waiting_bugs,
)

BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        *store_bugs.BUGS,
        *host_bugs.BUGS,
        *set_bugs.BUGS,
        *waiting_bugs.BUGS,
        *fleet_bugs.BUGS,
        *session_bugs.BUGS,
        *group_bugs.BUGS,
        *features.BUGS,
    )
}
