"""Services of systemd: they tell when they start, reload and stop, and that they work."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from durableq import DurableQ
from durableq.runtime.systemd import Systemd
from tests.process.child import Child, Nursery
from tests.process.facts import completed
from tests.process.fake_systemd import FakeSystemd
from tests.process.test_fleet_sighup import CODE, install
from tests.support import wait_for

DURABLEQ = [sys.executable, "-m", "durableq"]
GATED = """
import sys, threading
from pathlib import Path

if "durableq.cli" not in sys.modules:  # a worker
    Path("importing").touch()
    while not Path("gate").exists():
        threading.Event().wait(0.01)
"""
#: A supervisor whose loop hangs as soon as a worker receives.
STUCK = """
import sys, threading
from durableq import DurableQ
from durableq.runtime.systemd import Systemd
from durableq.supervisor.supervisor import Supervisor
from durableq.worker.options import WorkerOptions

def hang(event):
    if event.event == "ready":
        print("hangs", flush=True)
        threading.Event().wait()

systemd = Systemd()
options = WorkerOptions("shop:dq", sys.argv[1], "worker", ("orders",))
Supervisor(options, 1, DurableQ(sys.argv[1]).store, on_event=hang, systemd=systemd).run()
"""


@pytest.fixture
def address() -> Iterator[str]:
    # An address has 107 bytes at most (unix(7)); the folder of a test may have more.
    with TemporaryDirectory(prefix="durableq-") as folder:
        yield f"{folder}/notify"


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, address: str) -> Iterator[FakeSystemd]:
    with FakeSystemd(address if request.param == "file" else f"@{address}") as listener:
        yield listener


@pytest.fixture
def watching(address: str) -> Iterator[FakeSystemd]:
    with FakeSystemd(address, watchdog_seconds=1) as listener:
        yield listener


def start(nursery: Nursery, listener: FakeSystemd, folder: Path, *words: object) -> Child:
    command = [*DURABLEQ, *map(str, words)]
    return nursery.run(*command, cwd=folder, **listener.environment)


def start_fleet(
    nursery: Nursery, listener: FakeSystemd, db: Path, folder: Path, *words: object, code: str = ""
) -> Child:
    install(folder, code + CODE.format(version="one"))
    return start(nursery, listener, folder, "work", "--db", db, "--app", "shop:dq", *words)


@pytest.mark.usefixtures("dq")
def test_a_fleet_tells_its_start_its_reload_and_its_stop(
    db: Path, tmp_path: Path, nursery: Nursery, listener: FakeSystemd
) -> None:
    words = ("--procs", 2, "--grace", 7)
    fleet = start_fleet(nursery, listener, db, tmp_path, *words)
    listener.wait_states("READY")
    listener.wait_status("2 of 2 workers receive")
    asked_us = time.monotonic_ns() // 1000
    fleet.signal(signal.SIGHUP)
    listener.wait_states("READY", "RELOADING", "READY")
    assert asked_us <= listener.value("MONOTONIC_USEC") <= time.monotonic_ns() // 1000
    assert fleet.complaints.count("receives") == 4
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0
    listener.wait_states("READY", "RELOADING", "READY", "STOPPING")
    assert listener.value("EXTEND_TIMEOUT_USEC") > 7_000_000
    assert "WATCHDOG=1" not in listener.told


@pytest.mark.usefixtures("dq")
def test_a_fleet_has_started_when_its_workers_receive(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    start_fleet(nursery, watching, db, tmp_path, "--procs", 2, code=GATED)
    wait_for((tmp_path / "importing").exists, what="a worker to import its application")
    watching.wait_beats(1)
    assert watching.states == []
    assert watching.status == "0 of 2 workers receive"
    (tmp_path / "gate").touch()
    watching.wait_states("READY")


@pytest.mark.usefixtures("dq")
def test_a_reload_that_fails_ends_too(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    fleet = start_fleet(nursery, watching, db, tmp_path)
    watching.wait_states("READY")
    install(tmp_path, "raise RuntimeError('it is broken')")
    fleet.signal(signal.SIGHUP)
    watching.wait_states("READY", "RELOADING", "READY")
    fleet.wait_until(lambda: "reload failed" in fleet.complaints, "the failure to be logged")
    watching.wait_status("1 of 1 workers receive")


@pytest.mark.usefixtures("dq")
def test_a_fleet_that_cannot_start_is_never_ready(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    code = "import sys\nif 'durableq.cli' not in sys.modules: sys.exit(3)\n"
    fleet = start_fleet(nursery, watching, db, tmp_path, code=code)
    assert fleet.end() == 1
    assert "crash loop" in fleet.complaints
    assert watching.states == []


def test_a_fleet_that_drains_at_once_was_ready(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    dq.queue("orders").send("x")
    assert start_fleet(nursery, watching, db, tmp_path, "--drain").end() == 0
    assert completed(db, "orders") == 1
    assert watching.states == ["READY"]


@pytest.mark.usefixtures("dq")
def test_a_stopped_worker_is_silent_and_its_supervisor_is_not(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    fleet = start_fleet(nursery, watching, db, tmp_path, "--procs", 2)
    watching.wait_states("READY")
    stopped = fleet.family[0]
    stopped.suspend()
    watching.wait_status("2 of 2 workers receive, 1 of them silent")
    watching.wait_beats(3)
    stopped.resume()
    watching.wait_status("2 of 2 workers receive")


@pytest.mark.usefixtures("dq")
def test_a_supervisor_that_hangs_sends_no_beat(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    install(tmp_path, CODE.format(version="one"))
    command = [sys.executable, "-c", STUCK, str(db)]
    fleet = nursery.run(*command, cwd=tmp_path, **watching.environment)
    fleet.wait_line("hangs")
    assert "WATCHDOG=1" in watching.told
    assert not watching.is_told_more()


def test_programs_that_handlers_start_do_not_speak_for_the_service(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    dq.queue("orders").send("x")
    script = tmp_path / "look.sh"
    script.write_text("#!/bin/sh\nenv > environment\n")
    script.chmod(0o755)
    words = ("work", "--db", db, "--queue", "orders", "--drain", "--exec", script)
    assert start(nursery, watching, tmp_path, *words).end() == 0
    seen = (tmp_path / "environment").read_text()
    assert "DURABLEQ_QUEUE=orders" in seen
    assert "NOTIFY_SOCKET" not in seen
    assert "WATCHDOG" not in seen


@pytest.mark.usefixtures("dq")
def test_recovery_tells_its_start_its_work_and_its_stop(
    db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "all"\nwhen.queue = "orders"\nthen = "hold"\n')
    recovery = start(nursery, watching, tmp_path, "recover", "--db", db, "--policy", rules)
    watching.wait_states("READY")
    watching.wait_beats(3)
    recovery.signal(signal.SIGTERM)
    assert recovery.end() == 0
    watching.wait_states("READY", "STOPPING")
    assert watching.status == "0 decided"


@pytest.mark.usefixtures("dq")
@pytest.mark.parametrize("command", ["dashboard", "serve"])
def test_a_server_tells_its_start_its_work_and_its_stop(
    command: str, db: Path, tmp_path: Path, nursery: Nursery, watching: FakeSystemd
) -> None:
    server = start(nursery, watching, tmp_path, command, "--db", db, "--port", 0)
    watching.wait_states("READY")
    watching.wait_beats(3)
    server.signal(signal.SIGTERM)
    assert server.end() == 0
    watching.wait_states("READY", "STOPPING")


# ---- the protocol


def test_states_that_systemd_does_not_take_are_told_later_in_order(address: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": address})
    systemd.ready()
    systemd.beat("at work")
    systemd.reloading()
    with FakeSystemd(address) as listener:
        systemd.beat("at work")
        assert listener.states == ["READY", "RELOADING"]
        assert listener.status == "at work"
        systemd.beat("at work")
        assert not listener.is_told_within(0)
    systemd.close()


def test_the_watchdog_of_another_process_gets_no_beats(address: str) -> None:
    with FakeSystemd(address, watchdog_seconds=60) as listener:
        for pid, beats in (("1", 0), ("", 1)):
            systemd = Systemd(listener.environment | {"WATCHDOG_PID": pid})
            systemd.beat()
            assert listener.told.count("WATCHDOG=1") == beats
            systemd.close()


@pytest.mark.parametrize("usec", ["soon", "0", "-1", "9" * 400, "9" * 5000])
def test_a_time_of_the_watchdog_that_is_none_gets_no_beats(address: str, usec: str) -> None:
    with FakeSystemd(address) as listener:
        systemd = Systemd(listener.environment | {"WATCHDOG_USEC": usec})
        systemd.beat("at work")
        assert listener.told == ["STATUS=at work"]
        systemd.close()


def test_without_a_socket_of_systemd_nothing_is_told() -> None:
    environment = {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "soon", "HOME": "/"}
    systemd = Systemd(environment)
    assert environment == {"HOME": "/"}
    assert not systemd.is_there
    systemd.ready()
    systemd.beat("at work")
    systemd.close()
