"""Telling one process from another: a pid alone does not, for pids are used again."""

from __future__ import annotations

import os

import psutil

from durableq.store import WorkerInfo


def this_process(name: str) -> WorkerInfo:
    """Return what a store is told of the process that is running."""
    return WorkerInfo(name, os.getpid(), _created_ms(psutil.Process()))


def is_alive(worker: WorkerInfo) -> bool:
    """Return whether this very process runs, not a later one with its pid."""
    try:
        return _created_ms(psutil.Process(worker.pid)) == worker.created_ms
    except psutil.NoSuchProcess:
        return False


def _created_ms(process: psutil.Process) -> int:
    return int(process.create_time() * 1000)
