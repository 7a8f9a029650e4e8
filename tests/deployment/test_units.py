"""The units of systemd are sound, their walls are high, and durableq works inside them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.bench.serve_process import call
from tests.cli.console import environment
from tests.deployment.walls import walled
from tests.process.child import Nursery
from tests.process.facts import completed
from tests.process.test_fleet_sighup import CODE, install
from tests.support import new_file, scaled

UNITS = Path(__file__).parents[2] / "packaging/systemd"
NAMES = sorted(unit.name for unit in UNITS.glob("*.service"))
COMMON = (UNITS / "durableq-.service.d/10-common.conf").read_text()
#: 1 in the words of systemd-analyze: 10 is a service without walls.
THRESHOLD = 15
#: The rules of the application that recovery decides by.
RECOVERY = "\n\n@dq.recovery('orders')\ndef decide(_letter): ...\n"


def analyze(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    command = ["systemd-analyze", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(**more)
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a command that is there."""
    copied = shutil.copytree(UNITS, tmp_path / "units")
    for unit in copied.glob("*.service"):
        text = unit.read_text()
        assert "ExecStart=/opt/durableq/bin/durableq " in text
        unit.write_text(text.replace("/opt/durableq/bin/durableq ", "/bin/true "))
    return copied


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with an application and a message for it."""
    folder = tmp_path / "state"
    folder.mkdir()
    install(folder, CODE.format(version="one") + RECOVERY)
    with DurableQ(new_file(folder / "shop.db")) as dq:
        dq.queue("orders").send("x")
    return folder


def test_there_is_a_unit_for_each_process_that_stays() -> None:
    processes = ("dashboard", "recover", "serve", "work")
    assert [f"durableq-{name}.service" for name in processes] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong_with_a_unit(units: Path, name: str) -> None:
    verified = analyze("verify", "--man=no", str(units / name), SYSTEMD_UNIT_PATH=f"{units}:")
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_the_walls_of_a_unit_are_high(units: Path, name: str) -> None:
    words = ("security", "--offline=yes", f"--threshold={THRESHOLD}", "--no-pager", name)
    judged = analyze(*words, SYSTEMD_UNIT_PATH=f"{units}:")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "UNSAFE" not in judged.stdout


def command_of(name: str) -> list[str]:
    """Return the arguments of a unit's command."""
    (found,) = re.findall(r"^ExecStart=\S+ (.*)$", (UNITS / name).read_text(), re.MULTILINE)
    return str(found).split()


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_a_unit_is_one_of_ours(name: str) -> None:
    command = command_of(name)
    options = {word for word in command if word.startswith("--")}
    shown = subprocess.run(
        [sys.executable, "-m", "durableq", command[0], "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=True,
    )
    assert options <= set(re.findall(r"--[a-z-]+", shown.stdout))


def test_the_unit_waits_longer_than_its_fleet() -> None:
    command = command_of("durableq-work.service")
    (limit,) = re.findall(
        r"^TimeoutStopSec=(\d+)$", (UNITS / "durableq-work.service").read_text(), re.M
    )
    assert int(limit) > int(command[command.index("--grace") + 1])


@pytest.mark.parametrize(
    "words", [["work", "--drain"], ["recover", "--once"]], ids=["work", "recover"]
)
def test_durableq_works_inside_the_walls(shop: Path, words: list[str]) -> None:
    inside = walled(shop, memory=True)
    done = subprocess.run(
        [*inside, sys.executable, "-m", "durableq", *words, "--app", "shop:dq"],
        cwd=shop,
        env=environment(DURABLEQ_DB=str(shop / "shop.db"), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if words[0] == "work":
        assert completed(shop / "shop.db", "orders") == 1


def test_the_endpoint_answers_inside_the_walls(shop: Path, nursery: Nursery) -> None:
    words = ["-m", "durableq", "serve", "--port", "0", "--db", "shop.db"]
    server = nursery.run(*walled(shop, memory=True), sys.executable, *words, cwd=shop)
    server.wait_until(lambda: server.said, "the address")
    queue = {"QueueName": "orders"}
    found, _ = call(server.said[0], "GetQueueUrl", queue)
    assert found["QueueUrl"].endswith("/orders")
    server.process.terminate()
    assert server.end() == 0


def test_the_walls_of_these_tests_hold(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    script = f"touch {tmp_path}/inside/a && ! touch {tmp_path}/b && ! touch /durableq-test"
    words = [*walled(tmp_path / "inside"), "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Read-only file system") == 2


def system_calls(name: str) -> set[str]:
    """Return the system calls of a set of systemd, with those of the sets in it."""
    listed = analyze("syscall-filter", name).stdout
    names = re.findall(r"^    ([@\w-]+)$", listed, re.MULTILINE)
    within = (system_calls(inner) for inner in names if inner.startswith("@"))
    return {inner for inner in names if inner[0] != "@"}.union(*within)


def test_a_fleet_needs_no_system_call_that_the_units_refuse(shop: Path, tmp_path: Path) -> None:
    allowed, refused = (
        set().union(*map(system_calls, words.split()))
        for words in re.findall(r"^SystemCallFilter=~?(.+)$", COMMON, re.MULTILINE)
    )
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    tracing = ["strace", "-f", "-qq", "-o", str(tmp_path / "calls")]
    done = subprocess.run(
        [*tracing, sys.executable, "-m", "durableq", "work", "--drain", "--app", "shop:dq"],
        cwd=shop,
        env=environment(DURABLEQ_DB=str(shop / "shop.db")),
        capture_output=True,
        text=True,
        timeout=scaled(120),
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert (done.returncode, completed(shop / "shop.db", "orders")) == (0, 1), done.stderr
    calls = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert {"execve", "openat"} < calls
    if os.geteuid() == 0:  # SQLite gives the log to the owner of the database
        calls.discard("fchown")
    assert calls & refused == set()
    assert calls <= allowed
