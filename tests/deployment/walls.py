"""Run a command inside the walls of a hardened service or container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Remount every file system read-only, except the folders named before `--`, then run a command.
READ_ONLY = """
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
for folder in /dev/shm /tmp; do mount --bind $folder $folder; mount -o remount,bind,ro $folder; done
while [ "$1" != -- ]; do mount --bind "$1" "$1"; mount -o remount,bind,rw "$1"; shift; done; shift
cd "$PWD"  # which lies below the mounts made here, and may be read-only there
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
#: No memory that is both writable and executable: PR_SET_MDWE, since Linux 6.3.
NO_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit("this kernel has no PR_SET_MDWE")
os.execv(sys.argv[1], sys.argv[1:])
"""


def walled(*writable: Path, memory: bool = False, pid_1: bool = False) -> list[str]:
    """Return the words before a command that keep it inside, or skip the test.

    Args:
        writable: the folders that it may write; all else is read-only.
        memory: also refuse memory that is both writable and executable.
        pid_1: make it the first process of a pid namespace.
    """
    inside = ["unshare", "--mount"]
    inside += ["--pid", "--fork", "--kill-child", "--mount-proc"] if pid_1 else []
    inside += ["sh", "-c", READ_ONLY, "sh", *map(str, writable), "--"]
    if memory:
        inside += [sys.executable, "-c", NO_CODE]
    try:
        tried = subprocess.run(
            [*inside, sys.executable, "-c", ""], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here")
    if tried.returncode:
        pytest.skip(f"not allowed here: {tried.stderr.strip()}")
    return inside
