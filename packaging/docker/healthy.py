"""The health check of a container: exit 0 if one of its own workers shows signs of life.

It asks `durableq status`, so the database must answer too. Workers of other containers do not
count: a process is this container's if it is in this pid namespace, and sees these mounts: the
containers of a pod may share the first, not the second. A recovery process is listed like a worker.
A dashboard is not listed; its container has another check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

#: A worker without work writes a heartbeat once a minute.
SILENCE_MS = 180_000


def main() -> int:
    """Print one line, and return the exit code for Docker: 0 or 1."""
    asked = subprocess.run(
        ["durableq", "status", "--json"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        print(asked.stderr.strip())
        return 1
    now_ms = time.time() * 1000
    ours = [worker for worker in json.loads(asked.stdout)["workers"] if _is_ours(worker)]
    lively = [one for one in ours if one["alive"] and now_ms - one["beat_at_ms"] < SILENCE_MS]
    print(f"{len(lively)} of {len(ours)} workers of this container show signs of life")
    return 0 if lively else 1


def _is_ours(worker: dict[str, Any]) -> bool:
    """Return whether a worker is in this container."""
    if worker["pid_namespace"] != os.readlink("/proc/self/ns/pid"):
        return False
    try:
        mounts = os.readlink(f"/proc/{worker['pid']}/ns/mnt")
    except OSError:  # it has ended, which `alive` tells, or it is another user's
        return True
    return mounts == os.readlink("/proc/self/ns/mnt")


if __name__ == "__main__":
    sys.exit(main())
