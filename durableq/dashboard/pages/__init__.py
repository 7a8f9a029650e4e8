"""The pages: for each its path, its template, and the function that reads its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.responses import Response

from durableq.dashboard.pages import (
    dead_letters,
    health,
    keys,
    message,
    metrics,
    overview,
    queue,
    recovery,
    redrives,
    schedules,
    values,
    workers,
)
from durableq.dashboard.visit import Visit

Page = Callable[[Visit], Mapping[str, Any] | Response]

PAGES: Final[tuple[tuple[str, str, Page], ...]] = (
    ("/", "overview.html", overview.values),
    ("/queues/{name}", "queue.html", queue.values),
    ("/messages/{id}", "message.html", message.values),
    ("/messages/{id}/body", "", message.raw),
    ("/dead-letters", "dead_letters.html", dead_letters.values),
    ("/dead-letters/dry-run", "dry_run.html", dead_letters.dry_run),
    ("/redrives", "redrives.html", redrives.values),
    ("/redrives/{id}", "redrive.html", redrives.one),
    ("/schedules", "schedules.html", schedules.values),
    ("/workers", "workers.html", workers.values),
    ("/keys", "keys.html", keys.values),
    ("/values", "values.html", values.values),
    ("/recovery", "recovery.html", recovery.values),
    ("/health", "health.html", health.values),
    ("/metrics", "", metrics.text),
)
