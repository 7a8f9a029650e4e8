"""The health page: the findings of doctor, those of an audit on request, and backups."""

from __future__ import annotations

from typing import Any

from durableq.admin import operations
from durableq.dashboard.look import worst_first
from durableq.dashboard.visit import Visit


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page; with `?audit=1` also those of an audit.

    A check reads the whole file, so a recent one is shown again, unless `?check=1` asks for a new
    one.

    Raises:
        Refusal: the address has another value for one of them.
    """
    wants_audit = visit.is_asked("audit")
    health = visit.look.check() if visit.is_asked("check") else visit.look.recent()
    folder = visit.backups.folder
    return {
        "address": visit.look.address,
        "health": worst_first(health.findings),
        "age_ms": health.age_ms,
        "audit": worst_first(operations.audit(visit.store)) if wants_audit else None,
        "backup_folder": "" if folder is None else str(folder),
        "backup_advice": visit.backups.advice,
    }
