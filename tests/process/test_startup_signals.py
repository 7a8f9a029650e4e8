"""Signals that arrive while a command starts, from its first import on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from tests.process.child import PATH, Child, Nursery
from tests.process.test_fleet_sighup import CODE, install

MODULES = ["durableq.client.app", "typer", "shop"]
AT = pytest.mark.parametrize("module", MODULES)
JUDGE = "\n\n@dq.recovery('orders')\ndef judge(letter):\n    return None\n"
PLANT = """
import os, signal, sys


class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNAL_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))


if "SIGNAL_AT" in os.environ:
    sys.meta_path.insert(0, AtImport())
"""


class Signaller:
    """Starts commands that signal themselves as they import a module."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder = folder
        self._nursery = nursery
        install(folder, CODE.format(version="one") + JUDGE)
        (folder / "plant").mkdir()
        (folder / "plant" / "sitecustomize.py").write_text(PLANT)

    def start(self, number: signal.Signals, module: str, *words: str) -> Child:
        path = os.pathsep.join([str(self._folder / "plant"), *PATH])
        return self._nursery.run(
            *words,
            cwd=self._folder,
            PYTHONPATH=path,
            SIGNAL_AT=module,
            SIGNAL=str(int(number)),
        )


@pytest.fixture
def signaller(dq: DurableQ, tmp_path: Path, nursery: Nursery) -> Signaller:
    return Signaller(tmp_path, nursery)


def command(name: str, db: Path, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "durableq", name, f"--db={db}", "--app=shop:dq", *more)


@AT
def test_a_reload_that_comes_before_the_fleet_listens_ends_neither_it_nor_a_worker(
    db: Path, signaller: Signaller, module: str
) -> None:
    fleet = signaller.start(signal.SIGHUP, module, *command("work", db))
    fleet.wait_until(lambda: "receives" in fleet.complaints, "the fleet to receive")
    assert "died" not in fleet.complaints
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 0


@pytest.mark.parametrize(
    ("number", "module"),
    [*((signal.SIGTERM, module) for module in MODULES), (signal.SIGINT, "typer")],
)
def test_a_stop_that_comes_before_the_fleet_listens_ends_it_with_0(
    db: Path, signaller: Signaller, module: str, number: signal.Signals
) -> None:
    fleet = signaller.start(number, module, *command("work", db))
    assert fleet.end() == 0
    assert "started" not in fleet.complaints


def test_the_installed_script_holds_signals_from_its_first_line_on(
    db: Path, signaller: Signaller
) -> None:
    script = Path(sys.executable).with_name("durableq")
    if not script.exists():
        pytest.skip("durableq is not installed as a script here")
    words = (str(script), *command("work", db)[3:])
    assert signaller.start(signal.SIGTERM, "durableq.client.app", *words).end() == 0


@AT
def test_recover_obeys_a_stop_and_outlives_a_reload_while_it_starts(
    db: Path, signaller: Signaller, module: str
) -> None:
    recover = command("recover", db, "--once")
    numbers = [signal.SIGTERM] if module != "shop" else [signal.SIGTERM, signal.SIGHUP]
    for number in numbers:
        assert signaller.start(number, module, *recover).end() == 0


def test_a_running_recover_outlives_a_reload_and_says_that_it_loads_nothing(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    install(tmp_path, CODE.format(version="one") + JUDGE)
    recover = nursery.recover("--app=shop:dq", f"--db={db}", cwd=tmp_path)
    recover.wait_until(dq.store.require(Capability.FLEET).workers, "it to be listed")
    recover.signal(signal.SIGHUP)
    recover.wait_until(lambda: "does not load policies anew" in recover.complaints, "a sentence")
    for _ in range(2):  # delivered twice is one stop
        recover.signal(signal.SIGTERM)
    assert recover.end() == 0


def test_other_commands_end_by_their_signals_as_usual(db: Path, signaller: Signaller) -> None:
    words = (sys.executable, "-m", "durableq", "status", f"--db={db}")
    assert signaller.start(signal.SIGTERM, "durableq.client.app", *words).end() == -signal.SIGTERM


def test_importing_the_library_blocks_no_signal() -> None:
    code = "import durableq, signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_a_program_that_a_handler_runs_has_no_signal_blocked(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    dq.queue("orders").send("x")
    out = tmp_path / "mask"
    script = f"grep -h SigBlk /proc/self/status > {out}"
    drain = ("--db", db, "--queue", "orders", "--drain")
    assert nursery.work(*drain, "--exec", f"sh -c '{script}'").end() == 0
    assert int(out.read_text().split()[1], 16) == 0
