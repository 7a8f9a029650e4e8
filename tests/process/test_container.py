"""A container: the fleet as its first process, and a /proc that is missing or another's."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from durableq import DurableQ
from durableq.supervisor.signals import reap
from tests.process.child import Child, Nursery
from tests.process.facts import completed
from tests.process.test_fleet_sighup import CODE, install
from tests.support import scaled, wait_for

DURABLEQ = [sys.executable, "-m", "durableq"]
SUBREAPER = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"]
NO_PROC = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$0" "$@"']


def check_allowed(*words: str) -> None:
    """Skip the test where this user may not make such a namespace."""
    try:
        made = subprocess.run([*words, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here")
    if made.returncode:
        pytest.skip(f"not allowed here: {' '.join(words)}")


def leave_orphans(db: Path, tmp_path: Path) -> list[str]:
    """The options of a fleet whose handler leaves a process behind that ends later."""
    script = tmp_path / "leave.sh"
    script.write_text(f"#!/bin/sh\nsleep 0.2 &\necho $! >> {tmp_path}/orphans\n")
    script.chmod(0o755)
    return ["work", "--db", str(db), "--queue", "orders", "--exec", str(script)]


def as_subreaper(nursery: Nursery, words: list[str]) -> tuple[Child, psutil.Process]:
    fleet = nursery.run(sys.executable, "-c", SUBREAPER, *DURABLEQ, *words)
    return fleet, psutil.Process(fleet.pid)


def as_pid_1(nursery: Nursery, words: list[str]) -> tuple[Child, psutil.Process]:
    check_allowed(*NAMESPACE, "--mount-proc")
    fleet = nursery.run(*NAMESPACE, "--mount-proc", *DURABLEQ, *words)
    return fleet, wait_for(lambda: first_child(fleet), what="the fleet to be there")


def first_child(fleet: Child) -> psutil.Process | None:
    return next(iter(psutil.Process(fleet.pid).children()), None)


@pytest.mark.parametrize("start", [as_subreaper, as_pid_1], ids=["subreaper", "PID 1"])
def test_orphans_of_handlers_are_reaped_and_workers_are_still_watched(
    dq: DurableQ,
    db: Path,
    tmp_path: Path,
    nursery: Nursery,
    start: Callable[[Nursery, list[str]], tuple[Child, psutil.Process]],
) -> None:
    dq.queue("orders").send_many(["x"] * 3)
    fleet, supervisor = start(nursery, leave_orphans(db, tmp_path))
    fleet.wait_until(lambda: completed(db, "orders") == 3, "the handlers to have ended")
    fleet.wait_until(lambda: len(supervisor.children()) == 1, "the orphans to be reaped")
    supervisor.children()[0].kill()
    fleet.wait_until(lambda: fleet.complaints.count("receives") == 2, "the worker's successor")
    assert "died: SIGKILL" in fleet.complaints
    supervisor.terminate()
    assert fleet.end() == 0
    assert len((tmp_path / "orphans").read_text().split()) == 3


def test_a_workers_status_is_left_to_its_supervisor() -> None:
    worker = subprocess.Popen(["true"])
    other = subprocess.Popen(["true"])
    assert reap({worker.pid, other.pid}.__contains__) == 0
    assert worker.wait() == other.wait() == 0


@pytest.mark.parametrize(
    "words",
    [
        ["work", "--app=shop:dq"],
        ["work", "--queue=orders", "--exec=true"],
        ["recover", "--app=shop:dq"],
        ["status"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_without_proc_each_command_refuses_with_a_sentence(
    dq: DurableQ, db: Path, tmp_path: Path, words: list[str]
) -> None:
    check_allowed(*NO_PROC)
    install(tmp_path, CODE.format(version="one") + "\n\n@dq.recovery('orders')\ndef f(_): ...\n")
    refused = subprocess.run(
        [*NO_PROC, *DURABLEQ, *words, "--db", str(db)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "/proc is not mounted here" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_where_proc_shows_another_pid_namespace_a_fleet_works(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    check_allowed(*NAMESPACE)
    dq.queue("orders").send_many(["x"] * 3)
    words = ["work", "--db", str(db), "--queue", "orders", "--exec", "true", "--procs", "2"]
    fleet = nursery.run(*NAMESPACE, *DURABLEQ, *words)
    fleet.wait_until(lambda: completed(db, "orders") == 3, "the messages to be handled")
    fleet.wait_until(lambda: fleet.complaints.count("receives") == 2, "both workers")
    supervisor = first_child(fleet)
    assert supervisor is not None
    supervisor.children()[0].kill()
    fleet.wait_until(lambda: fleet.complaints.count("receives") == 3, "the worker's successor")
    supervisor.send_signal(signal.SIGTERM)
    assert fleet.end() == 0
    assert "Traceback" not in fleet.complaints
    refused = subprocess.run(
        [*NAMESPACE, *DURABLEQ, *words, "--max-rss", "1G"],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (refused.returncode, "--max-rss needs a /proc" in refused.stderr) == (1, True)
