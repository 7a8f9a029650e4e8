"""A worker before its first receive: it waits for a busy file, within a deadline."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from durableq.supervisor.starting import FALSE_STARTS
from tests.engine import plain
from tests.process.child import Child, Nursery, Supervisor, runs
from tests.process.facts import REASONS, completed
from tests.process.test_fleet_sighup import CODE, install, states, version_of
from tests.support import scaled, wait_for

HANGS = "import time\ntime.sleep(10000)\n"
HANGS_IN_WORKERS = (
    CODE.format(version="one")
    + "\nimport sys\n"
    + ("if sys.argv[0].endswith('/worker/__main__.py'):\n    import time\n    time.sleep(10000)\n")
)
BUSY_WITH_THE_FIRST = """
import time
from pathlib import Path
from durableq import DurableQ

dq = DurableQ()


@dq.handler("orders", prefetch=5)
def act(message):
    Path("begun").touch()
    while not Path("gate").exists():
        time.sleep(0.01)
"""
BUSY = "the database is busy: another process is writing; waiting"


@contextmanager
def write_lock(db: Path, nursery: Nursery) -> Iterator[None]:
    """Let another process hold the write lock."""
    locker = nursery.start("lock", db)
    locker.wait_line("READY")
    yield
    locker.kill()


def impatient(db: Path) -> str:
    """The URL of a file for which a call waits a fifth of a second, not ten seconds."""
    return f"sqlite:///{db}?busy_timeout=0.2"


def start(db: Path | str, folder: Path, nursery: Nursery, **options: Any) -> Supervisor:
    install(folder, CODE.format(version="one"))
    fleet = nursery.fleet(db, app="shop:dq", cwd=folder, **options)
    fleet.wait_event("ready")
    return fleet


def waits(child: Child, times: int = 1) -> None:
    child.wait_until(lambda: child.complaints.count(BUSY) >= times, "it to wait for the file")


# ---- the file is busy, or the disk full


def test_workers_that_start_while_the_file_is_locked_wait_and_then_receive(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, CODE.format(version="one"))
    with write_lock(db, nursery):
        fleet = nursery.fleet(impatient(db), app="shop:dq", cwd=tmp_path, procs=2)
        fleet.wait_until(
            lambda: fleet.complaints.count(BUSY) >= 2 or fleet.told("died"),
            "both to wait for the file",
        )
        assert fleet.told("ready", "died") == []
    fleet.wait_event("ready", times=2)
    assert fleet.told("died", "crash_loop") == []
    assert "try again" not in fleet.complaints
    assert "the database can be used again" in fleet.complaints


def test_workers_killed_while_they_wait_for_the_file_are_no_crash_loop(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(impatient(db), tmp_path, nursery, procs=2)
    fleet.wait_event("ready", times=2)
    rounds = 1 + (FALSE_STARTS + 1) // 2
    with write_lock(db, nursery):
        for number in range(1, rounds + 1):  # the first two have received, the others wait
            for said in fleet.told("started")[-2:]:
                fleet.worker(said.pid).kill()
            waits(fleet, times=2 * number)
    fleet.wait_event("ready", times=4)
    assert len(fleet.told("died")) == 2 * rounds
    assert fleet.told("crash_loop") == []
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0


def test_a_fleet_that_waits_for_the_file_obeys_a_stop(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, CODE.format(version="one"))
    with write_lock(db, nursery):
        fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, procs=2)  # its calls wait for 10 s
        fleet.wait_event("started", times=2)
        fleet.signal(signal.SIGTERM)
        assert fleet.end() == 0
    assert fleet.told("overdue") == []


def test_an_application_that_uses_the_locked_file_while_it_is_imported_is_waited_for(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    code = CODE.format(version="one").replace("DurableQ()", f"DurableQ({impatient(db)!r})")
    install(tmp_path, code + "\n\ndq.queue('orders').send('hello')\n")
    with write_lock(db, nursery):
        fleet = nursery.fleet(impatient(db), app="shop:dq", cwd=tmp_path, procs=2)
        waits(fleet)
        assert fleet.told() == []
    fleet.wait_event("ready", times=2)
    with write_lock(db, nursery):
        for said in fleet.told("ready"):
            fleet.worker(said.pid).kill()
        fleet.wait_event("died", times=2 + FALSE_STARTS + 1)
    fleet.wait_event("ready", times=4)
    assert fleet.told("crash_loop") == []


def test_recover_starts_while_the_file_is_locked_and_waits(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    app = CODE.format(version="one") + "\n\n@dq.recovery('orders')\ndef judge(letter): ...\n"
    install(tmp_path, app)
    with write_lock(db, nursery):
        url = impatient(db)
        recoverer = nursery.recover("--once", "--app=shop:dq", f"--db={url}", cwd=tmp_path)
        waits(recoverer)
    assert recoverer.end() == 0
    assert "try again" not in recoverer.complaints


def test_workers_that_start_while_the_disk_is_full_wait_and_then_receive(
    tmp_path: Path, nursery: Nursery
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        db = disk / "queue.db"
        fleet = start(db, tmp_path, nursery)
        wait_for(lambda: empty_the_log(db), what="the log to be empty")
        ballast = disk / "ballast"
        fill(ballast)
        fleet.worker(fleet.told("ready")[0].pid).kill()
        fleet.wait_until(lambda: is_waiting_for_room(fleet), "a wait")
        ballast.unlink()
        fleet.wait_event("ready", times=2)
        assert fleet.told("crash_loop") == []
        fleet.signal(signal.SIGTERM)
        assert fleet.end() == 0
    finally:
        nursery.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def is_waiting_for_room(fleet: Supervisor) -> bool:
    return "the disk of the database is full; waiting" in fleet.complaints


def empty_the_log(db: Path) -> bool:
    """Bring the log into the file, so that the next write needs room."""
    plain.rows(db, "PRAGMA wal_checkpoint(TRUNCATE)")
    return db.with_name(f"{db.name}-wal").stat().st_size == 0


def fill(ballast: Path) -> None:
    """Leave no room on a disk."""
    with ballast.open("wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def test_a_worker_that_died_while_the_file_was_locked_is_judged_afterwards(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    dq.queue("orders").send_many([0] * 5)
    install(tmp_path, BUSY_WITH_THE_FIRST)
    fleet = nursery.fleet(impatient(db), app="shop:dq", cwd=tmp_path)
    fleet.wait_until((tmp_path / "begun").exists, "the first of five begun")
    with write_lock(db, nursery):
        fleet.worker(fleet.told("started")[0].pid).kill()
        fleet.wait_event("unreturned")
        (tmp_path / "gate").touch()
    fleet.wait_until(lambda: completed(db, "orders") == 5, "all to be handled")
    assert plain.column(db, REASONS) == ["worker_lost"]


# ---- an import that hangs


def test_a_reload_onto_an_import_that_hangs_leaves_the_old_worker_and_is_logged(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    limit = round(scaled(2))  # enough for the first version on a loaded machine
    fleet = start(db, tmp_path, nursery, start_timeout=limit)
    install(tmp_path, HANGS)
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("starting")
    fleet.wait_until(lambda: states(dq).get("worker-1") == "starting", "it to be listed")
    assert version_of(dq, fleet, "meanwhile") == '"one"'
    overdue = fleet.wait_event("start_timeout")
    assert f"within {limit} s" in overdue.text
    assert "reload failed" in fleet.wait_event("not_renewed").text
    fleet.wait_until(lambda: states(dq).get("supervisor") == "reload failed", "it to be listed")
    assert version_of(dq, fleet, "still") == '"one"'
    assert [said.event for said in fleet.told("ended", "died")] == ["died"]
    install(tmp_path, CODE.format(version="second"))
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("ready", times=2)
    assert version_of(dq, fleet, "after") == '"second"'
    assert "supervisor" not in states(dq)


def test_a_second_reload_does_not_wait_for_the_deadline_of_the_first(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(db, tmp_path, nursery, start_timeout=600)
    install(tmp_path, HANGS)
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("started", times=2)
    install(tmp_path, CODE.format(version="second"))
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("ready", times=2)
    assert version_of(dq, fleet, "after") == '"second"'
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0


def test_a_stop_ends_the_old_worker_and_the_one_that_hangs(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(db, tmp_path, nursery)
    install(tmp_path, HANGS)
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("started", times=2)
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    assert fleet.family == []
    assert dq.store.require(Capability.FLEET).workers() == []


def test_a_worker_lost_during_a_reload_is_replaced_by_its_successor(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    fleet = start(db, tmp_path, nursery, start_timeout=600)
    install(
        tmp_path,
        "import pathlib, time\nwhile not pathlib.Path('go').exists():\n"
        "    time.sleep(0.01)\n" + CODE.format(version="second"),
    )
    fleet.signal(signal.SIGHUP)
    fleet.wait_event("started", times=2)
    fleet.worker(fleet.told("ready")[0].pid).kill()
    fleet.wait_event("died")
    (tmp_path / "go").touch()
    fleet.wait_event("ready", times=2)
    assert version_of(dq, fleet, "after") == '"second"'
    assert len(fleet.told("started")) == 2


def test_an_import_that_hangs_in_every_worker_is_logged_and_ends_the_fleet_with_1(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, HANGS_IN_WORKERS)
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, procs=5, start_timeout=1)
    assert fleet.end() == 1
    assert len(fleet.told("start_timeout")) >= FALSE_STARTS
    assert "not imported in time" in fleet.told("crash_loop")[0].text


def test_an_import_that_hangs_in_the_supervisor_is_logged_and_ends_it_with_1(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, HANGS)
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, start_timeout=0.5)
    assert fleet.end() == 1
    assert "not imported within 0.5 s" in fleet.complaints


def test_a_worker_whose_import_hangs_ends_with_its_supervisor(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, HANGS_IN_WORKERS)
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, start_timeout=4, grace=600)
    fleet.wait_event("starting")
    (worker,) = fleet.family
    fleet.kill()
    assert wait_for(lambda: not runs(worker), what="the worker to end", seconds=20)
